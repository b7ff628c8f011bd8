"""Loads a winner as a network ready to use: from a run, or from a folder that `winnow export` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from winnow import models, reports
from winnow.reports.reading.archives import check_expansion
from winnow.reports.reading.files import file_in
from winnow.reports.reading.run import read_retrained
from winnow.reports.tables.ensemble import members
from winnow.reports.text.next_step import way_to_winners
from winnow.search.storage.run_folder import RunFolder, open_run
from winnow.search.training.checkpoint import CorruptCheckpoint, load
from winnow.search.training.views import with_views
from winnow.search.winners.ensemble import MeanOfProbabilities
from winnow.search.winners.weight_files import WEIGHTS, check_weights
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain
from winnow.spaces.schema import Config, Transfer
from winnow.spaces.sizes import size_of
from winnow.spaces.trial_status import TrialStatus

EXPORT_VERSION = 2
"""Version of the format. Since version 2 an export may be an ensemble, whose `members` are folders in it."""
BATCH = 256


@dataclass(frozen=True)
class Winner:
    """A retrained network with everything that is needed to use it."""

    network: nn.Module = field(repr=False)
    """The network; it maps float32 images [N, C, H, W] with pixels in [0, 1] to logits [N, K]."""
    config: Config
    class_names: tuple[str, ...]
    origin: dict[str, Any] = field(repr=False)
    """`run`, `rank`, `trial` and `seed` of the training, and `data_fingerprint`; for an ensemble also `ensemble`, those of each network."""
    image_shape: tuple[int, int, int]
    """Shape of one image: (channels, height, width)."""
    members: tuple[Winner, ...] = field(default=(), repr=False)
    """The networks of an ensemble; empty for a single network."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Predict the probability of every class.

        Args:
            images: uint8 [N, H, W, C], of the size and channels that the network was trained on.

        Returns:
            Probabilities, float32 [N, K]; each row sums to 1.

        Raises:
            InputError: The images have another shape or type.
        """
        channels, height, width = self.image_shape
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (height, width, channels):
            raise InputError(
                f"images must be uint8 [N, {height}, {width}, {channels}], but got {images.dtype} {list(images.shape)}"
            )
        device = next(self.network.buffers()).device
        outputs = [torch.empty(0, len(self.class_names))]
        with torch.inference_mode():
            for batch in torch.from_numpy(np.require(images, requirements=["C", "W"])).split(BATCH):
                pixels = batch.to(device).permute(0, 3, 1, 2).float() / 255
                outputs.append(self.network(pixels).float().softmax(1).cpu())
        return torch.cat(outputs).numpy()


class Pixels(nn.Module):
    """A network from images float32 [N, C, H, W] with pixels in [0, 1] to logits [N, K]; it normalises, then applies `model`."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        image_shape: tuple[int, int, int],
        mean: list[float],
        std: list[float],
        test_flip: bool = False,
        test_shift: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.views = (test_flip, test_shift)
        self.image_shape = image_shape
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return with_views(self.model, *self.views)((images - self.mean) / self.std)


def load_winner(run: str | Path, rank: int = 1) -> Winner:
    """Load a retrained winner of a run, on the CPU, ready to predict.

    The network of its lowest seed is loaded: choosing the best on the test images would select on them.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        rank: Rank of the winner, from 1.

    Returns:
        The network with its config and class names.

    Raises:
        InputError: There is no such run or winner.
    """
    folder = open_run(run)
    return load_retrained(folder, _retrained_line(folder, rank))


def load_retrained(folder: RunFolder, line: dict[str, Any]) -> Winner:
    """Load the network of a completed line of `retrain.jsonl`.

    Args:
        folder: The run.
        line: A line of `retrain.jsonl` whose status is `completed`.

    Raises:
        InputError: The weights cannot be read.
    """
    study, rank = folder.read_study(), line["rank"]
    file = file_in(folder.path, line.get("weights"))
    try:
        check_expansion(file)
        stored = load(file)
        weights = dict(stored["weights"])
    except InputError:
        raise
    except (OSError, KeyError, TypeError, ValueError, CorruptCheckpoint) as error:
        raise InputError(f"{file}: the weights of winner {rank} cannot be read ({error})") from error
    try:
        config = Config.model_validate(line["config"])
    except ValueError as error:
        raise InputError(f"{folder.retrained}: damaged: {' '.join(str(error).split())}") from error
    normalization = stored.get("normalization") or _computed_again(folder, config)
    with _damage(folder.study):
        data = study["data"]
        names, shape = _names_and_shape(data)
        origin = {
            "run": study.get("name") or folder.name,
            "rank": rank,
            "trial": line["trial"],
            "seed": line["seed"],
            "data_fingerprint": data["fingerprint"],
        }
    return _assemble(config, weights, shape, names, normalization, origin)


def load_ensemble(run: str | Path) -> Winner:
    """Load all retrained networks of all winners of a run as one network, on the CPU, ready to predict.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.

    Returns:
        The ensemble. Its config is that of the first winner, and its `members` are the networks.

    Raises:
        InputError: There is no such run, or it has fewer than two retrained networks.
    """
    folder = open_run(run)
    return _joined(_members(folder))


def _members(folder: RunFolder) -> list[Winner]:
    lines = [line for line in members(read_retrained(folder.path)[0]) if line.get("weights")]
    if len(lines) < 2:
        raise InputError(
            f"{folder.path}: an ensemble needs at least two retrained networks of winners, but there are {len(lines)}. "
            f"{way_to_winners(reports.read(folder.path))}"
        )
    return [load_retrained(folder, line) for line in lines]


def _joined(networks: Sequence[Winner]) -> Winner:
    """Join winners of one run into an ensemble; they take the same images and have the same classes."""
    first = networks[0]
    network = MeanOfProbabilities([each.network for each in networks]).eval()
    origin: dict[str, Any] = {**first.origin, "ensemble": [_label(each.origin) for each in networks]}
    return Winner(network, first.config, first.class_names, origin, first.image_shape, tuple(networks))


def _label(origin: dict[str, Any]) -> dict[str, Any]:
    return {key: origin[key] for key in ("rank", "trial", "seed")}


def load_export(folder: str | Path) -> Winner:
    """Load a folder that `winnow export` wrote.

    Raises:
        InputError: Something in it is missing or damaged.
    """
    folder = Path(folder)
    about = _read_about(folder)
    if isinstance(about.get("members"), list) and about["members"]:
        return _joined([load_export(member) for member in member_folders(folder, about)])
    try:
        config = Config.model_validate(read_plain(folder / "config.yaml"))
        check_weights(folder / WEIGHTS)
        weights = load_file(folder / WEIGHTS)
    except InputError:
        raise
    except (OSError, yaml.YAMLError, ValueError) as error:
        raise InputError(f"{folder}: incomplete export ({' '.join(str(error).split())})") from error
    with _damage(folder / "model.json"):
        names, shape = _names_and_shape(about)
        normalization = {key: list(map(float, about["normalization"][key])) for key in ("mean", "std")}
        origin = {**about["origin"], **_label(about["origin"])}
    return _assemble(config, weights, shape, names, normalization, origin)


@contextmanager
def _damage(file: Path) -> Iterator[None]:
    """Turn errors about the content of a file into an InputError that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{file}: damaged: {type(error).__name__}: {error}") from error


def _names_and_shape(about: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[int, int, int]]:
    """Return the names of the classes, and (channels, height, width) of the images."""
    names, shape = tuple(map(str, about["class_names"])), tuple(map(int, about["image_shape"]))
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"image_shape must be (channels, height, width), but got {shape}")
    channels, height, width = shape
    return names, (channels, height, width)


def member_folders(folder: Path, about: Mapping[str, Any]) -> list[Path]:
    """Return the folders of the networks of an exported ensemble.

    Args:
        folder: The exported ensemble.
        about: Content of its `model.json`.

    Raises:
        InputError: A member is outside this folder, so that the code that it names was not checked.
    """
    inside = folder.resolve()
    members = []
    for name in about["members"]:
        member = (folder / str(name)).resolve()
        if not (member.is_relative_to(inside) and member != inside):
            raise InputError(f"{folder / 'model.json'}: `members` must name folders in it, but got {name!r}")
        members.append(folder / str(name))
    return members


def best_within(folder: RunFolder, max_parameters: int) -> int:
    """Return the rank of the best retrained winner whose network is small enough.

    The objective of the search decides which is best, because choosing by test accuracy would select on the test images.

    Args:
        folder: The run.
        max_parameters: Largest number of parameters, at least 1.

    Raises:
        InputError: No winner was retrained yet, or none is that small.
    """
    sign = 1 if folder.read_study()["settings"].get("direction") == "maximize" else -1
    lines = [
        line
        for line in _winner_lines(folder)
        if line["status"] == TrialStatus.COMPLETED
        and all(isinstance(line.get(key), int | float) for key in ("num_parameters", "search_value"))
    ]
    small = [line for line in lines if line["num_parameters"] <= max_parameters]
    if not small:
        least = min((line["num_parameters"] for line in lines), default=None)
        known = "no retraining was completed" if least is None else f"the smallest has {least:,}"
        raise InputError(f"--max-parameters {max_parameters}: {folder.path} has no such winner; {known}")
    return int(max(small, key=lambda line: (sign * line["search_value"], -line["rank"]))["rank"])


def _winner_lines(folder: RunFolder) -> list[dict[str, Any]]:
    lines = [line for line in read_retrained(folder.path)[0] if line["rank"] is not None]
    if not lines:
        raise InputError(f"{folder.path}: no winner was retrained yet. {way_to_winners(reports.read(folder.path))}")
    return lines


def _retrained_line(folder: RunFolder, rank: int) -> dict[str, Any]:
    lines = _winner_lines(folder)
    ranks = sorted({line["rank"] for line in lines})
    if rank not in ranks:
        raise InputError(f"--winner {rank}: {folder.path} has the winners {', '.join(map(str, ranks))}")
    whole = [
        line
        for line in lines
        if line["rank"] == rank and line["status"] == TrialStatus.COMPLETED and line.get("weights")
    ]
    if not whole:
        raise InputError(f"{folder.path}: no retraining of winner {rank} was completed, so it has no weights")
    return min(whole, key=lambda line: line["seed"])


def _computed_again(folder: RunFolder, config: Config) -> dict[str, Any]:
    """Compute the channel statistics that retraining used, for weights that were stored without them."""
    from winnow.search.data.source import Source, load_data
    from winnow.search.storage.run_folder import space_of
    from winnow.search.training.device_data import DeviceData

    study = folder.read_study()
    data = load_data(space_of(folder, study), Source(Path(study.get("data_dir", "data"))))
    if data.fingerprint != study["data"]["fingerprint"]:
        raise InputError(f"{folder.path}: the normalisation was not stored, and the data set has changed since the run")
    built = DeviceData.build(data, config.data, torch.device("cpu"), seed=0, use="retrain")
    return {"mean": list(built.mean), "std": list(built.std)}


def _read_about(folder: Path) -> dict[str, Any]:
    file = folder / "model.json"
    if not file.is_file():
        raise InputError(f"{folder}: no exported winner here (no model.json); write one: winnow export RUN --winner 1")
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not readable as JSON ({error})") from error
    version = about.get("export_version") if isinstance(about, dict) else None
    if not isinstance(version, int):
        raise InputError(f"{file}: not written by winnow export (no export_version in it)")
    if version > EXPORT_VERSION:
        raise InputError(f"{file}: export_version {version}, but this Winnow reads up to {EXPORT_VERSION}; upgrade it")
    return about


def _assemble(
    config: Config,
    weights: dict[str, torch.Tensor],
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    normalization: dict[str, Any],
    origin: dict[str, Any],
) -> Winner:
    views = (config.test_flip, config.test_shift)
    try:
        _check_size(config, image_shape, len(class_names), weights)
        with torch.random.fork_rng(devices=[]):  # the drawn weights are replaced below
            model = models.build(config.model, image_shape, len(class_names))
        model.load_state_dict(weights)
        network = Pixels(model, image_shape, normalization["mean"], normalization["std"], *views)
    except InputError:
        raise
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, MemoryError) as error:
        raise InputError(
            f"the weights do not fit the network of the config ({' '.join(str(error).split())})"
        ) from error
    return Winner(network.eval(), config, class_names, origin, image_shape)


def _check_size(
    config: Config, image_shape: tuple[int, int, int], num_classes: int, weights: Mapping[str, torch.Tensor]
) -> None:
    """Check that there are weights for all parameters, before memory is allocated for the network of a config that somebody else wrote.

    Raises:
        InputError: There are fewer, or a layer shrinks the image to nothing.
    """
    size, held = size_of(config.model, image_shape, num_classes), sum(weight.numel() for weight in weights.values())
    # Of a network with a backbone, only the head can be of any size.
    widths = [*config.model.head, num_classes] if isinstance(config.model, Transfer) else []
    fewest = sum(inputs * outputs for inputs, outputs in pairwise(widths)) if size is None else size.parameters
    if fewest > held:
        raise InputError(
            f"the weights do not fit the network of the config: it has {fewest:,} parameters, but there are weights for {held:,}"
        )
