"""Runs trials in a Ray worker, one after another, all with the same training loop.

Errors are caught and reported as a status: an exception would end the worker, and starting another one takes seconds.
"""

from __future__ import annotations

import platform
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from winnow.search.ray_backend.shared_data import Job, SharedData, train_on
from winnow.search.storage.remote import join
from winnow.search.storage.run_folder import answers_name, checkpoint_name, heartbeat_name, prints_name, trial_name
from winnow.search.study.trials import Assignment
from winnow.search.training.errors import RankLost, failure, release_memory, storage_errors
from winnow.spaces.gpu_facts import GPU_FACT_NAMES
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    import torch

    from winnow.search.data.image_data import ImageData
    from winnow.search.training.ranks import Team

WHERE_TRAINED = ("node", "device", "cpus", "gpus", *GPU_FACT_NAMES)
"""The keys of `where_trained`."""


def run_trial(config: dict[str, Any], data: SharedData, job: Job) -> None:
    """Run one trial in a Ray worker. This is the trainable of Tune.

    Args:
        config: Holds the `Assignment` as JSON under the key `assignment`; a single string keeps
            Tune's bookkeeping small.
        data: The images.
        job: Settings that all trials share.
    """
    from ray import tune

    from winnow.search.training.prints import printing_to

    assignment = Assignment.from_json(config["assignment"])
    if job.by_kind:
        job = replace(job, gpus=_reserved_gpus() or job.gpus)
    with printing_to(_prints(assignment, job)), closing(trial_reports(assignment, data, job)) as reports:
        for report in reports:
            tune.report(report)


def _prints(assignment: Assignment, job: Job) -> str:
    return join(job.checkpoints, prints_name(assignment.number))


def _reserved_gpus() -> float | None:
    """Return the share of a GPU in the placement group of this process; None if there is no group or no GPU in it."""
    from ray.util import get_current_placement_group

    group = get_current_placement_group()
    return group.bundle_specs[0].get("GPU") if group is not None else None


def trial_reports(
    assignment: Assignment, data: ImageData | SharedData, job: Job
) -> Generator[dict[str, Any], None, None]:
    """Train one trial, and yield its reports.

    Epochs that are in the checkpoint but not in the study, because the driver died in between, are
    reported again but not trained again.

    Args:
        assignment: The trial: number, config, seed, and the number of epochs that the study has
            recorded.
        data: The images, or a reference to them.
        job: Settings that all trials share.

    Yields:
        The figures of each epoch. If something goes wrong, the last report has `status` and `error`.

    Raises:
        RankLost: The group of ranks that trains the trial is lost.
    """
    try:
        name, prints = trial_name(assignment.number), _prints(assignment, job)
        yield from train_on(data, name, _epochs, prints, assignment=assignment, job=job)
        _release_shared(job)
        return
    except RankLost:
        raise
    except GeneratorExit:  # the search stopped or paused the trial
        _release_shared(job)
        raise
    except (Exception, SystemExit) as error:  # a model that calls sys.exit() would take the worker along
        # After DeviceLost Tune ends the process, and the ledger starts this trial again from its checkpoint in another one.
        status, text = failure(error)
    # The frames of the exception held the tensors of the training. Only here, after its end, can their memory be released.
    if status == TrialStatus.OUT_OF_MEMORY or job.shares_gpu:
        release_memory()
    yield {"status": status, "error": text}


def _release_shared(job: Job) -> None:
    """Release what the allocator keeps for the next trial of this process, if trials in other processes may need it."""
    if job.shares_gpu:
        release_memory()


def _epochs(
    data: ImageData, team: Team | None, assignment: Assignment, job: Job
) -> Generator[dict[str, Any], None, None]:
    from winnow.models import summarize
    from winnow.search.training.checkpoint import CorruptCheckpoint, Interval, load, save
    from winnow.search.training.device_data import DeviceData
    from winnow.search.training.heartbeat import beating
    from winnow.search.training.latency import latency_beside_limit, latency_ms
    from winnow.search.training.loop import train
    from winnow.search.training.ranks import Task
    from winnow.search.training.validation_answers import write_validation_answers
    from winnow.spaces.schema import Config

    device = prepare(job, team)
    config = Config.model_validate(assignment.config)
    path = join(job.checkpoints, checkpoint_name(assignment.number))
    try:
        with storage_errors(path):
            state = load(path)
    except (FileNotFoundError, CorruptCheckpoint):
        state = None
    history: list[dict[str, Any]] = state.pop("history") if state else []
    size: dict[str, Any] = {}
    if not assignment.recorded:
        summary = summarize(config.model, data.image_shape, data.num_classes)
        size = {"num_parameters": summary.num_parameters, "multiply_adds": summary.multiply_adds}
        num_measured = 0
        if job.latency:
            measure = partial(latency_ms, config.model, data.image_shape, data.num_classes, device)
            limit = job.limits.latency_ms if job.limits is not None else None
            size["latency_ms"], num_measured = latency_beside_limit(measure, limit)
        if job.limits is not None and (excess := job.limits.exceeded(size)) is not None:
            if job.limits.first_exceeded(size) == "latency_ms":
                excess += _about_latency(num_measured, job.concurrent)
            yield {"status": TrialStatus.INFEASIBLE, "error": excess, **size, **where_trained(device, job)}
            return
    for report in history:
        if report["epoch"] > assignment.recorded:
            yield {**report, **size}
            size = {}
    if history and history[-1]["last"]:
        return
    on_device = DeviceData.build(data, config.data, device, job.seed)
    pieces, seed = assignment.micro_batches, assignment.seed
    if team is not None:
        team.begin(Task(config, job.seed, "search", seed, state, pieces))
    interval = Interval(job.checkpoint_seconds, job.rungs)
    with beating(join(job.checkpoints, heartbeat_name(assignment.number)), config.train is None):
        for result in train(config, on_device, device, seed, checkpoint=state, micro_batches=pieces, team=team):
            report = {**result.figures(), **where_trained(device, job, result.replays_graphs)}
            history.append(report)
            if job.predictions is not None and result.last and not result.diverged:
                answers = join(job.predictions, answers_name(assignment.number))
                with storage_errors(answers):
                    write_validation_answers(config, result.weights(), on_device, answers)
            # Saved before the report, so that an epoch in the study is not lost with the worker. Between checkpoints, epochs are
            # trained again.
            if interval.is_due(result.epoch, result.last):
                with storage_errors(path):
                    save(path, {**result.state(), "history": history})
            yield {**report, **size}
            size = {}


def _about_latency(num_measured: int, concurrent: int) -> str:
    """Tell how a latency was measured, and beside how many other trainings, as the end of a message."""
    least = f"the least of {num_measured} measurements" if num_measured > 1 else "measured once"
    others = {1: "no other trial", 2: "up to 1 other trial"}.get(concurrent, f"up to {concurrent - 1} other trials")
    return f" ({least}, beside {others} of this search)"


def prepare(job: Job, team: Team | None) -> torch.device:
    """Set the threads of this process, reset the peaks of GPU memory, and return the device to train on.

    Args:
        job: Device and number of threads.
        team: Team of ranks, which determines the device and has set the threads already; None if
            this process trains alone.
    """
    import torch

    from winnow.search.training.gpu_facts import forget_peaks

    if team is None:
        torch.set_num_threads(job.threads)
    device = torch.device(job.device) if team is None else team.device
    forget_peaks(device)
    return device


def where_trained(device: torch.device, job: Job, replays_graphs: bool = False) -> dict[str, Any]:
    """Return the node, device and resources of a training, and facts about its GPU, as each epoch records them.

    Args:
        device: Device of the training.
        job: CPUs and GPUs that Ray reserves for it.
        replays_graphs: Whether the training replays CUDA graphs. Default: False.

    Returns:
        Values by the names in `WHERE_TRAINED`.
    """
    from winnow.search.training.gpu_facts import gpu_facts

    return {
        "node": platform.node(),
        "device": device_name(device),
        "cpus": job.cpus,
        "gpus": job.gpus,
        **gpu_facts(device, replays_graphs),
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or the type of any other device."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
