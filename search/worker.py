"""What runs in a Ray worker: one trial after the other, each through the one training loop.

Errors are caught and reported as a status: an exception would destroy the worker, and starting the next one costs seconds.
"""

from __future__ import annotations

import gc
import json
import platform
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from search.folder import checkpoint_name
from search.storage import join

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


CANNOT_WRITE = (
    "cannot_write"  # a last word that is no end of the trial: the driver stops the search, the trial stays open
)


@dataclass(frozen=True)
class Job:
    """What all trials of a search share."""

    checkpoints: str
    """A path, or a URI of a storage that every node reaches."""
    device: str
    threads: int
    seed: int
    """Of the split."""
    cpus: float | None = None
    gpus: float | None = None
    """What Ray sets aside for one trial; for the record."""
    ranks: int = 1
    """Processes that train one network together, with a GPU each."""

    @property
    def threads_of_a_rank(self) -> int:
        return max(1, self.threads // self.ranks)

    @property
    def held(self) -> dict[str, float | None]:
        return {"cpus": self.cpus, "gpus": self.gpus}


@dataclass(frozen=True)
class SharedData:
    """The images in Ray's object store: one copy per node, which all its workers see without copying it."""

    reference: Any
    """ray.ObjectRef of an ImageData."""


def run_trial(config: dict[str, Any], data: SharedData, job: Job) -> None:
    """The Tune trainable. `config["assignment"]` is an `Assignment` as JSON (one flat key keeps Tune's bookkeeping small)."""
    import ray
    from ray import tune

    assignment = json.loads(config["assignment"])
    for report in trial_reports(assignment, ray.get(data.reference), job):
        tune.report(report)


def trial_reports(assignment: dict[str, Any], data: ImageData, job: Job) -> Iterator[dict[str, Any]]:
    """An epoch's figures each; last, if something went wrong, `{"status", "error"}`. RankLost is raised: the worker is lost.

    Epochs that the checkpoint has and the study has not (the driver died in between) are reported again, not trained again.
    """
    try:
        yield from _epochs(assignment, data, job)
        return
    except CannotWrite as error:
        status, text = CANNOT_WRITE, str(error)
    except (Exception, SystemExit) as error:  # a model that calls sys.exit() would take the worker along
        if is_rank_lost(error):
            raise
        status, text = failure(error)
    # Only here, with the exception, are the frames gone that hold the tensors of the training.
    if status == "out_of_memory":
        release_memory()
    yield {"status": status, "error": text}


class CannotWrite(Exception):
    """A checkpoint cannot be written, as on a full disk: nothing that the trial can help."""


def failure(error: BaseException) -> tuple[str, str]:
    """The status of a training that ended with `error`, and what to say of it."""
    if is_out_of_memory(error):
        return "out_of_memory", str(error) or type(error).__name__
    return "failed", "".join(traceback.format_exception(error, limit=-8))


def is_rank_lost(error: BaseException) -> bool:
    from search.training.ranks import RankLost

    return isinstance(error, RankLost)


def is_out_of_memory(error: BaseException) -> bool:
    """Of a device or of the machine; torch has no class of its own for the second, nor for CUDA's libraries."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)


OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def release_memory() -> None:
    """So that the next training, here or in another process on the same GPU, finds it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _epochs(assignment: dict[str, Any], data: ImageData, job: Job) -> Iterator[dict[str, Any]]:
    from search.no_compiler import postpone_compiler

    postpone_compiler()
    import torch

    from models import summarize
    from search.training.checkpoint import CorruptCheckpoint, load, save
    from search.training.loop import train
    from search.training.pipeline import DeviceData
    from search.training.ranks import Task, team_of
    from spaces.schema import Config

    torch.set_num_threads(job.threads_of_a_rank)
    device = torch.device(job.device)
    config = Config.model_validate(assignment["config"])
    path = join(job.checkpoints, checkpoint_name(assignment["number"]))
    try:
        state = load(path)
    except (FileNotFoundError, CorruptCheckpoint):
        state = None
    history: list[dict[str, Any]] = state.pop("history") if state else []
    size: dict[str, Any] = {}
    if not assignment["recorded"]:
        summary = summarize(config.model, data.image_shape, data.num_classes)
        size = {"num_parameters": summary.num_parameters, "multiply_adds": summary.multiply_adds}
    for report in history:
        if report["epoch"] > assignment["recorded"]:
            yield {**report, **size}
            size = {}
    if history and history[-1]["last"]:
        return
    on_device = DeviceData.build(data, config.data, device, job.seed)
    pieces, seed = assignment["micro_batches"], assignment["seed"]
    team = team_of(job.ranks, device, job.threads_of_a_rank)
    if team is not None:
        team.begin(data, Task(config, job.seed, "search", seed, state, pieces))
    for result in train(config, on_device, device, seed, checkpoint=state, micro_batches=pieces, team=team):
        report = {**epoch_figures(result), "node": platform.node(), "device": device_name(device), **job.held}
        history.append(report)
        # Before the report: an epoch that the study knows is never lost with the worker.
        try:
            save(path, {**result.state(), "history": history})
        except OSError as error:
            raise CannotWrite(f"{error.strerror or error}: {path}") from error
        yield {**report, **size}
        size = {}


def epoch_figures(result: Any) -> dict[str, Any]:
    """The JSON-able part of an EpochResult."""
    return {name: getattr(result, name) for name in EPOCH_FIGURES}


def device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
