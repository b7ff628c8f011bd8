"""Trains one recipe without Ray (`winnow train`): fits on its training split, selects on its validation split, and tests once.

`winnow bench-recipes` runs `fit_and_test` in its workers. The output folder holds config.yaml, epochs.jsonl (one line per epoch,
with the loss of every batch), checkpoint.pt, weights.pt, predictions.npz and result.json.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from rich.console import Console

from winnow.models import summarize
from winnow.reports.durable import make_folder
from winnow.reports.reading.predictions import PREDICTIONS
from winnow.reports.text.wording import tf32_text
from winnow.reports.values import finite_or_null
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source, describe_data
from winnow.search.operations.checks import load_checked, require_recipe
from winnow.search.ray_backend.worker import device_name
from winnow.search.resources.plan import DeviceName
from winnow.search.storage.json_lines import JsonLines, epoch_line, read_json_lines
from winnow.search.storage.leftovers import sweep_files
from winnow.search.storage.provenance import available_cpus, hardware, versions
from winnow.search.storage.run_folder import write_text
from winnow.search.training.checkpoint import CorruptCheckpoint, load, save
from winnow.search.training.device_data import DeviceData
from winnow.search.training.errors import StorageFailed, headline, storage_errors
from winnow.search.training.final_test import evaluate_test_set
from winnow.search.training.loop import train, weights_of
from winnow.spaces.encoding import complete_config, first_difference
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain
from winnow.spaces.grammar.problems import show_path, show_value
from winnow.spaces.schema import Config
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

CONFIG = "config.yaml"
RESULT = "result.json"
"""File with the final figures. A training whose folder has none is not complete, whatever its checkpoint says: it was not tested."""


@dataclass(frozen=True)
class TrainingJob:
    """One training: its config, and the seed that decides the split, the initial weights and the order of the images."""

    name: str
    config: Config
    seed: int
    use: Literal["search", "retrain"] = "search"
    """How the splits are used (see `DeviceData.build`): `retrain` also fits the validation images, and keeps the last epoch's weights."""
    micro_batches: int = 1


def train_recipe(
    space: Space,
    *,
    seed: int,
    output: Path | None,
    resume: bool,
    device: DeviceName,
    threads: int | None,
    source: Source,
    console: Console,
    fit_validation: bool = False,
    micro_batches: int = 1,
) -> dict[str, Any]:
    """Train on the training split, select on the validation split, and test once at the end.

    Args:
        space: A recipe, which is a space that leaves no value open.
        seed: Random seed of the split, the initial weights and the data order, at least 0.
        output: Folder for weights, curves, config, figures and a checkpoint after every epoch; None if nothing is written.
        resume: Whether to continue from the checkpoint in `output`.
        device: `auto`, `cpu`, `cuda` or `mps`.
        threads: Number of CPU threads, at least 1; None for all CPUs.
        source: Location of the images.
        console: Console on which the figures of each epoch are printed.
        fit_validation: Whether to train on the validation images too, as retraining does. The same config, seed, threads and
            `micro_batches` then give the same network bit for bit. Default: False.
        micro_batches: Number of pieces in which each batch passes through the network, at least 1; more pieces need less memory.
            Default: 1.

    Returns:
        The figures that `result.json` holds.

    Raises:
        InputError: The space leaves a value open or does not fit the images, or `output` cannot be used, written or read.
    """
    require_recipe(space)
    use: Literal["search", "retrain"] = "retrain" if fit_validation else "search"
    training = TrainingJob(space.name, space.example(), seed, use, micro_batches)
    state = _prepare(output, resume, training)
    say = partial(console.print, markup=False, soft_wrap=True)  # texts may hold brackets
    data = load_checked(space, source, say)
    for line in describe_data(data, space, seed)["summary"]["text"]:
        say(line)
    torch_device = torch.device(choose_torch_device(device))
    summary = summarize(training.config.model, data.image_shape, data.num_classes)
    epochs = training.config.epochs
    say(
        f"{space.name} on {device_name(torch_device)}: {summary.num_parameters:,} parameters, "
        f"{summary.multiply_adds:,} multiply-adds per image, {epochs} epochs, seed {seed}"
    )
    with _torch_threads(threads or available_cpus()), _written_to(output):
        final = fit_and_test(training, data, torch_device, output, state, lambda figures: say(_line(figures, epochs)))
    if final["status"] == TrialStatus.DIVERGED:
        say(f"diverged in epoch {final['epochs']}: the loss is no longer finite")
        return final
    say(
        f"test accuracy {final['test_accuracy']:.4f}, test loss {final['test_loss']:.4f} "
        f"(weights of epoch {final['weights_epoch']}; the test set was evaluated once); always predicting the largest class: "
        f"{np.bincount(data.test_labels).max() / len(data.test_labels):.4f}"
    )
    if final["tf32"]:
        say(tf32_text("this training"))
    if final["num_classes_answered"] == 1:
        say("warning: the network gives every test image the same class")
    if output:
        from winnow.reports import write_training

        with _written_to(output), storage_errors(str(output), may_be_missing=False):
            report = write_training(output)
        say(f"weights, curves and figures: {output}\nreport: {report}")
    return final


def fit_and_test(
    training: TrainingJob,
    data: ImageData,
    device: torch.device,
    output: Path | None,
    state: dict[str, Any] | None = None,
    listener: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> dict[str, Any]:
    """Run one training, or the rest of it, and evaluate its test set once.

    Args:
        training: The training: config, seed and use of the splits.
        data: Its images.
        device: The device to train on.
        output: Folder to write to; None if nothing is written.
        state: Checkpoint to continue from. After the last epoch only the test remains. Default: start from the beginning.
        listener: Called with the figures of every epoch. Default: nothing is called.

    Returns:
        The final figures, which are also written to `output`/result.json. A training that diverged has no test figures.

    Raises:
        StorageFailed: A file in `output` cannot be written or read.
    """

    def writing() -> AbstractContextManager[None]:
        return storage_errors(str(output), may_be_missing=False) if output else nullcontext()

    config, seed = training.config, training.seed
    on_device = DeviceData.build(data, config.data, device, seed, training.use)
    with writing():
        lines = _open_lines(output, config, keep=state is not None)
        epochs = [figures for figures in _recorded(output) if figures["epoch"] <= state["epoch"]] if state else []
    result = None
    for result in train(config, on_device, device, seed, checkpoint=state, micro_batches=training.micro_batches):
        figures = result.figures()
        epochs.append(figures)
        listener(figures)
        if lines and output:
            with writing():
                lines.append(epoch_line("train", seed, {**figures, "batch_losses": result.batch_losses.tolist()}))
                save(output / "checkpoint.pt", {**result.state(), "use": training.use})
    final = _final(training, data, device, on_device, epochs)
    with writing():
        if not epochs[-1]["diverged"]:
            weights = result.weights() if result else weights_of(state or {})
            final |= _tested(config, data, on_device, weights, epochs, output)
        if output:
            write_text(output / RESULT, json.dumps(finite_or_null(final), indent=2, allow_nan=False))
    return final


def _final(
    training: TrainingJob, data: ImageData, device: torch.device, on_device: DeviceData, epochs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the final figures of a training, without those of its test."""
    config, last = training.config, epochs[-1]
    summary = summarize(config.model, data.image_shape, data.num_classes)
    return {
        "name": training.name,
        "status": TrialStatus.DIVERGED if last["diverged"] else TrialStatus.COMPLETED,
        "epochs": last["epoch"],
        "stopped_early": last["epoch"] < config.last_epoch and not last["diverged"],
        "seed": training.seed,
        "fit_validation": training.use == "retrain",
        "micro_batches": training.micro_batches,
        "wall_seconds": round(sum(figures["wall_seconds"] for figures in epochs), 3),
        "images_per_second": round(_middle([figures["images_per_second"] for figures in epochs]), 1),
        "num_parameters": summary.num_parameters,
        "multiply_adds": summary.multiply_adds,
        "device": device_name(device),
        "tf32": config.precision == "float32" and bool(last.get("tf32")),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "hardware": hardware(),
        "data": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "image_shape": list(data.image_shape),
            "class_names": list(data.class_names),
            "num_train": len(on_device.train),
            "num_validation": len(on_device.validation) if on_device.validation else 0,
            "num_test": len(data.test_labels),
            "notes": list(data.notes),
        },
    }


def _tested(
    config: Config,
    data: ImageData,
    on_device: DeviceData,
    weights: dict[str, torch.Tensor],
    epochs: list[dict[str, Any]],
    output: Path | None,
) -> dict[str, Any]:
    """Evaluate the test set, write the weights, and return the figures of the test and of the epoch whose weights were kept."""
    weights_epoch = epochs[-1]["weights_epoch"]
    chosen = next(figures for figures in reversed(epochs) if figures["epoch"] == weights_epoch)
    kept = {key: chosen[key] for key in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")}
    test = evaluate_test_set(config, weights, on_device, data, output / PREDICTIONS if output else None)
    if output:
        save(output / "weights.pt", {"weights": weights, "config": config.model_dump(mode="json")})
    return {"weights_epoch": weights_epoch, **kept, **test}


@contextmanager
def _written_to(output: Path | None) -> Iterator[None]:
    """Convert an error of the disk to an InputError that says how to continue."""
    try:
        yield
    except StorageFailed as error:
        begun = output is not None and (output / "checkpoint.pt").exists()
        again = "What was written before is kept: add --resume" if begun else "Start it again"
        raise InputError(f"--output: {error}. {again} once there is room, or the folder is repaired") from error


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    """Use `count` threads in the block, then restore the number of the caller, such as a notebook."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_torch_device(requested: DeviceName) -> str:
    """Return the requested device. For `auto` it is a GPU if there is one, otherwise MPS or the CPU.

    Raises:
        InputError: `cuda` is requested, but torch sees no GPU.
    """
    if requested == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if requested == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu, or check CUDA_VISIBLE_DEVICES")
    return requested


def _prepare(output: Path | None, resume: bool, training: TrainingJob) -> dict[str, Any] | None:
    """Create the output folder, and return the checkpoint to continue from, if any.

    Raises:
        InputError: The folder holds another training or a complete one, has no checkpoint to continue from, or cannot be written.
    """
    if output is None:
        if resume:
            raise InputError("--resume needs --output, the folder that holds the checkpoint")
        return None
    checkpoint = output / "checkpoint.pt"
    if not checkpoint.exists():
        if resume:
            raise InputError(f"{checkpoint}: no checkpoint to resume from")
        try:
            make_folder(output)
        except OSError as error:
            raise InputError(f"--output {output}: cannot write there ({error.strerror})") from error
        return None
    try:
        state = load(checkpoint)
    except (CorruptCheckpoint, OSError) as error:
        raise InputError(f"{error}; to train from the beginning, remove the file or choose another --output") from error
    if resume:
        _check_same(checkpoint, state, training)
        check_recorded_config(output, training.config, may_go_on=True)
    if (output / RESULT).exists() and (state["stopped"] or state["epoch"] >= training.config.last_epoch):
        raise InputError(
            f"{output}: holds a training that is complete, so there is nothing to resume; choose another --output"
        )
    if not resume:
        raise InputError(f"{output}: already holds a training; continue it with --resume, or choose another --output")
    return state


def _check_same(checkpoint: Path, state: dict[str, Any], training: TrainingJob) -> None:
    """Check that a checkpoint belongs to a training, which may have more epochs than before.

    Raises:
        InputError: It does not.
    """
    use, seed, last_epoch = training.use, training.seed, training.config.last_epoch
    if (state.get("use") == "retrain") != (use == "retrain"):
        other = "give --fit-validation too" if use == "search" else "leave out --fit-validation"
        problem = f"was started with the other value of --fit-validation; to resume it, {other}"
    elif state["seed"] != seed:
        problem = f"was started with --seed {state['seed']}, not {seed}; to resume it, give the same seed"
    elif state["epoch"] > last_epoch:
        problem = f"has run {state['epoch']} epochs, more than the {last_epoch} of this recipe; to resume it, give its own recipe"
    else:
        return
    raise InputError(f"{checkpoint}: this training {problem}")


def check_recorded_config(folder: Path, config: Config, may_go_on: bool = False) -> None:
    """Check that the training in a folder, if there is one, has a config.

    Args:
        folder: Folder of the training, which need not exist.
        config: The config.
        may_go_on: Whether the number of epochs and the location of the images may differ. Default: no.

    Raises:
        InputError: It has another config; the message names the first key that differs.
    """
    file = folder / CONFIG
    if not file.exists():
        return
    try:
        recorded = complete_config(read_plain(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(
            f"{file}: cannot be read ({headline(error)}), so nobody knows what was trained in this folder; choose another --output"
        ) from None
    given = config.model_dump(mode="json")
    if may_go_on:
        recorded |= {key: given.get(key) for key in ("epochs", "stop_after")}
        recorded["data"]["path"] = given["data"]["path"]
    difference = first_difference(recorded, given)
    if difference is not None:
        path, before, now = difference
        raise InputError(
            f"{file}: the training in this folder has {show_path(path)} {show_value(before)}, not {show_value(now)}; "
            "give the same recipe and --set as before, or choose another --output"
        )


def _open_lines(output: Path | None, config: Config, keep: bool) -> JsonLines | None:
    """Open the file of epochs, which is emptied unless the training continues."""
    if output is None:
        return None
    make_folder(output)
    sweep_files(output, ("checkpoint.pt", "weights.pt", PREDICTIONS))
    (output / RESULT).unlink(missing_ok=True)  # it may be of fewer epochs
    if not keep:
        (output / "epochs.jsonl").unlink(missing_ok=True)
    write_text(output / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    return JsonLines(output / "epochs.jsonl")


def _recorded(output: Path | None) -> list[dict[str, Any]]:
    """Return the epochs written so far. If an epoch was written twice, the first line counts."""
    lines = read_json_lines(output / "epochs.jsonl") if output else []
    first: dict[int, dict[str, Any]] = {}
    for line in lines:
        first.setdefault(line["epoch"], line)
    return list(first.values())


def _middle(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def _line(figures: dict[str, Any], epochs: int) -> str:
    if figures["diverged"]:
        return f"epoch {figures['epoch']:>3}/{epochs}  diverged"
    shares = [
        (f"{part} {short} ", figures[f"{part}_{key}"], ".4f")
        for part in ("train", "validation")
        for short, key in (("loss", "loss"), ("acc", "accuracy"))
    ]
    shown = [*shares, ("lr ", figures["lr"], ".2g"), ("", figures["images_per_second"], ".0f")]
    parts = [f"{name}{value:{form}}" for name, value, form in shown if value is not None and not math.isnan(value)]
    return "  ".join([f"epoch {figures['epoch']:>3}/{epochs}", *parts]) + " images/s"
