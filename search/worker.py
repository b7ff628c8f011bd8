"""What runs in a Ray worker: one trial after the other, each through the one training loop.

Errors are caught and reported as a status: an exception would destroy the worker, and starting the next one costs seconds.
"""

from __future__ import annotations

import json
import platform
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from search.training.data import ImageData


EPOCH_FIGURES = (
    "epoch",
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "lr",
    "wall_seconds",
    "images_per_second",
    "diverged",
    "last",
    "weights_epoch",
)


@dataclass(frozen=True)
class Job:
    """What all trials of a search share."""

    checkpoints: str
    device: str
    threads: int
    seed: int
    """Of the split."""


def run_trial(config: dict[str, Any], data: ImageData, job: Job) -> None:
    """The Tune trainable. `config["assignment"]` is an `Assignment` as JSON (one flat key keeps Tune's bookkeeping small)."""
    from ray import tune

    assignment = json.loads(config["assignment"])
    for report in trial_reports(assignment, data, job):
        tune.report(report)


def trial_reports(assignment: dict[str, Any], data: ImageData, job: Job) -> Iterator[dict[str, Any]]:
    """An epoch's figures each; last, if something went wrong, `{"status", "error"}`.

    Epochs that the checkpoint has and the study has not (the driver died in between) are reported again, not trained again.
    """
    import torch

    try:
        yield from _epochs(assignment, data, job)
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        yield {"status": "out_of_memory", "error": str(error)}
    except MemoryError as error:
        yield {"status": "out_of_memory", "error": str(error) or "MemoryError"}
    except Exception:
        yield {"status": "failed", "error": traceback.format_exc(limit=-8)}


def _epochs(assignment: dict[str, Any], data: ImageData, job: Job) -> Iterator[dict[str, Any]]:
    import torch

    from models import summarize
    from search.training.checkpoint import CorruptCheckpoint, load, save
    from search.training.loop import train
    from search.training.pipeline import DeviceData
    from spaces.schema import Config

    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    config = Config.model_validate(assignment["config"])
    path = Path(job.checkpoints) / f"trial-{assignment['number']:05d}.pt"
    try:
        state = load(path) if path.exists() else None
    except CorruptCheckpoint:
        state = None
    history: list[dict[str, Any]] = state.pop("history") if state else []
    for report in history:
        if report["epoch"] > assignment["recorded"]:
            yield report
    if history and history[-1]["last"]:
        return
    size: dict[str, Any] = {}
    if not assignment["recorded"]:
        summary = summarize(config.model, data.image_shape, data.num_classes)
        size = {"num_parameters": summary.num_parameters, "multiply_adds": summary.multiply_adds}
    on_device = DeviceData.build(data, config.data, device, job.seed)
    for result in train(config, on_device, device, assignment["seed"], checkpoint=state):
        report = {**epoch_figures(result), "node": platform.node(), "device": device_name(device)}
        history.append(report)
        # Before the report: an epoch that the study knows is never lost with the worker.
        save(path, {**result.state(), "history": history})
        yield {**report, **size}
        size = {}


def epoch_figures(result: Any) -> dict[str, Any]:
    """The JSON-able part of an EpochResult."""
    return {name: getattr(result, name) for name in EPOCH_FIGURES}


def device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
