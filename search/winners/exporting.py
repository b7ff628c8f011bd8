"""Exports a winner as a self-contained folder: recipe, weights, torch.export program, ONNX, and a model card."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save

from winnow.reports.durable import make_folder, part_of, publish, sweep_parts
from winnow.search.optional import require
from winnow.search.storage.leftovers import lock_of
from winnow.search.storage.provenance import versions
from winnow.search.storage.run_folder import RunFolder, write_text
from winnow.search.winners.model_card import Checks, model_card
from winnow.search.winners.weight_files import WEIGHTS
from winnow.search.winners.winner import EXPORT_VERSION, Pixels, Winner, load_ensemble, load_winner
from winnow.spaces.errors import InputError

NUM_CHECKED = 5  # random images
TOLERANCE = 1e-3
"""Largest difference of a logit from the eager network's, as a share of the largest logit (at least 1)."""


def export(
    folder: RunFolder,
    rank: int = 1,
    output: Path | None = None,
    weights_only: bool = False,
    ensemble: bool = False,
) -> Path:
    """Write a winner, or the ensemble of all winners, as a folder, whole or not at all.

    The torch.export program and the ONNX file take pixels in [0, 1] and normalise them. Both are compared with the eager network
    before anything is kept.

    Args:
        folder: The run.
        rank: Rank of the winner, from 1. Default: 1.
        output: Folder to write. Default: RUN/winner-RANK, or RUN/ensemble.
        weights_only: Whether to leave out the program and the ONNX file. Default: False.
        ensemble: Whether to write the ensemble instead of one winner. Default: False.

    Returns:
        The folder that was written.

    Raises:
        InputError: The folder exists, a package is missing, or the network cannot be exported.
    """
    output = output or folder.path / ("ensemble" if ensemble else f"winner-{rank}")
    if output.exists():
        raise InputError(f"--output {output}: exists already; choose another folder, or remove it")
    if not weights_only:
        for name in ("onnx", "onnxscript"):
            require(name, "winnow export (without --weights-only)")
    winner = load_ensemble(folder.path) if ensemble else load_winner(folder.path, rank)
    with _whole(output) as part:
        _write_network(winner, part)
        checks = None if weights_only else _write_programs(winner, part)
        write_text(part / "README.md", model_card(folder, winner, output.name, checks))
    return output


def _write_network(winner: Winner, part: Path) -> None:
    """Write what `load_export` reads; each network of an ensemble gets its own folder."""
    part.mkdir(exist_ok=True)
    for name, member in zip(_member_names(winner), winner.members, strict=True):
        _write_network(member, part / name)
    if isinstance(winner.network, Pixels):
        weights = {name: tensor.contiguous().clone() for name, tensor in winner.network.model.state_dict().items()}
        # Not save_file, whose file only its owner can read.
        (part / WEIGHTS).write_bytes(save(weights))
        recipe = yaml.safe_dump(winner.config.model_dump(mode="json"), sort_keys=False)
        write_text(part / "config.yaml", f"# {_title(winner)}\n{recipe}")
    write_text(part / "model.json", json.dumps(_about(winner), indent=2))


def _member_names(winner: Winner) -> list[str]:
    return [f"member-{number}" for number in range(1, len(winner.members) + 1)]


def _title(winner: Winner) -> str:
    origin = winner.origin
    if winner.members:
        return f"Ensemble of {len(winner.members)} networks of the run {origin['run']}"
    return f"Winner {origin['rank']} of the run {origin['run']} (trial {origin['trial']}, weights of seed {origin['seed']})"


def _about(winner: Winner) -> dict[str, Any]:
    about = {
        "export_version": EXPORT_VERSION if winner.members else 1,
        "origin": winner.origin,
        "class_names": list(winner.class_names),
        "image_shape": list(winner.image_shape),
        "versions": versions(),
    }
    if isinstance(winner.network, Pixels):
        about["normalization"] = {
            "of": "pixels scaled to [0, 1], per channel; model.pt2 and model.onnx do it themselves",
            "mean": winner.network.mean.flatten().tolist(),
            "std": winner.network.std.flatten().tolist(),
        }
    return {**about, "members": _member_names(winner)} if winner.members else about


def _write_programs(winner: Winner, folder: Path) -> Checks:
    """Write model.pt2 and model.onnx for batches of any size, and return how far their logits are from the eager network's."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(NUM_CHECKED, *winner.image_shape, generator=generator)
    with torch.inference_mode():
        expected = winner.network(images).numpy()
    with _quiet():
        try:
            program = _program(winner, images, any_batch=True)
            torch.export.save(program, folder / "model.pt2", extra_files=_metadata(winner))
            any_batch = _write_onnx(program, winner, images, folder / "model.onnx")
        except Exception as error:  # torch.export and ONNX raise many kinds; a user's network may do anything
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise InputError(
                f"{_title(winner)}: this network cannot be exported as a program ({reason}); "
                "weights and recipe alone: winnow export ... --weights-only"
            ) from error
        with torch.inference_mode():
            from_program = torch.export.load(folder / "model.pt2").module()(images).numpy()
    return Checks(
        program=_difference("model.pt2", from_program, expected),
        onnx=_onnx_difference(folder / "model.onnx", images.numpy(), expected, any_batch),
        onnx_any_batch=any_batch,
        num_images=len(images),
    )


def _metadata(winner: Winner) -> dict[str, str]:
    """Return the metadata that a program carries, as JSON by key: `metadata_props` in ONNX, `extra_files` in torch.export."""
    about = _about(winner)
    return {
        key: json.dumps(about[key]) for key in ("class_names", "image_shape", "normalization", "origin") if key in about
    }


def _program(winner: Winner, images: torch.Tensor, any_batch: bool) -> Any:
    shapes = {"images": {0: torch.export.Dim("batch", min=1)}} if any_batch else None
    return torch.export.export(winner.network, (images if any_batch else images[:1],), dynamic_shapes=shapes)


def _write_onnx(program: Any, winner: Winner, images: torch.Tensor, file: Path) -> bool:
    """Write model.onnx, and return whether it takes batches of any size.

    A convolution whose kernels depend on the image has as many groups as there are images, and ONNX needs that number in
    advance. Such a network takes one image at a time.
    """
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "dynamo": True, "verbose": False}
    any_batch = True
    try:
        written = torch.onnx.export(program, **names)
    except torch.onnx.OnnxExporterError:
        any_batch = False
        written = torch.onnx.export(_program(winner, images, any_batch), **names)
    assert written is not None  # never None with dynamo=True
    written.model.metadata_props.update(_metadata(winner))
    written.save(file, external_data=False)
    return any_batch


def _onnx_difference(file: Path, images: np.ndarray, expected: np.ndarray, any_batch: bool) -> float | None:
    """Return the largest difference of a logit from onnxruntime's; None if it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    batches = [images] if any_batch else np.split(images, len(images))
    logits = np.concatenate([np.asarray(session.run(["logits"], {"images": batch})[0]) for batch in batches])
    return _difference(file.name, logits, expected)


def _difference(name: str, logits: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest difference of a logit; raise InputError if it is more than rounding."""
    difference = float(np.abs(logits - expected).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise InputError(
            f"{name} does not reproduce the network (a logit differs by {difference:.3g}), so nothing was exported; "
            "weights and recipe alone: winnow export ... --weights-only"
        )
    return difference


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """Yield a folder beside `output` that is renamed to it once it is complete, and removed otherwise."""
    part = part_of(output)
    sweep_parts(output)
    try:
        make_folder(part)
        with (lock := lock_of(part)):
            yield part
            Path(lock.lock_file).unlink()
            publish(part, output)
    except OSError as error:
        raise InputError(f"--output {output}: cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress what torch's exporters print about their progress, and their warnings about their own internals."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
