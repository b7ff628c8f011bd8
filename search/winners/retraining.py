"""Retrains the best configs and the baseline with fresh seeds, and tests each training once.

The search chose these configs on validation images; the test images are opened only here, and every line of
`retrain.jsonl` says when. A training that has a line is not repeated, so an interrupted retraining continues where it stopped.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from winnow.reports.reading.run import read_retrained, retraining_stem
from winnow.search.ray_backend.shared_data import Job, SharedData, train_on
from winnow.search.ray_backend.silence import limit
from winnow.search.ray_backend.tasks import Hangs, run_tasks
from winnow.search.ray_backend.worker import prepare, where_trained
from winnow.search.settings import Settings
from winnow.search.storage import remote as storage
from winnow.search.storage.clock import now
from winnow.search.storage.json_lines import JsonLines, epoch_line, read_epochs
from winnow.search.storage.run_folder import RunFolder, retraining_prints_name
from winnow.search.study.failure_policy import MICRO_BATCHES
from winnow.search.training.errors import STORAGE_FAILED, Failed, RankLost, failure, release_memory, storage_errors
from winnow.search.training.heartbeat import beating
from winnow.search.winners.candidates import Candidate, seed_of
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.ray_backend.late_nodes import NodeWatch
    from winnow.search.resources.plan import ResourcePlan
    from winnow.search.training.ranks import Team


def retrain(
    ray: Any,
    folder: RunFolder,
    candidates: list[Candidate],
    settings: Settings,
    data: SharedData,
    job: Job,
    plan: ResourcePlan,
    progress: Callable[[int, int, str], None],
    tell: Callable[[Candidate, dict[str, Any], list[dict[str, Any]]], None],
    say: Callable[[str], None],
) -> int:
    """Train every candidate with every seed that has no line in `retrain.jsonl` yet, in parallel as Ray tasks.

    Args:
        ray: The initialised `ray` module.
        folder: The run.
        candidates: The configs, from `choose_candidates`.
        settings: Settings of the run; `retrain.seeds` is the number of seeds.
        data: The images.
        job: The settings that all trainings share.
        plan: The resources that Ray reserves for each training.
        progress: Called with the number of finished trainings, the number of all, and a line of text about the latest.
        tell: Called with the candidate and the result of `retrain_one`, once that is written.
        say: Receives messages for the user, such as what the trainings wait for, and which of them run again.

    Returns:
        The number of finished trainings.

    Raises:
        OSError: A file of the run cannot be written or read.
    """
    recorded = read_retrained(folder.path)[0]
    _discard_left(job, recorded)
    done = {(line["trial"], line["seed"]) for line in recorded}
    seeds = [seed_of(settings, index) for index in range(settings.retrain.seeds)]
    predictions = storage.join(folder.shared, "predictions")

    def task(candidate: Candidate, seed: int) -> tuple[tuple[Candidate, int], tuple[Any, ...]]:
        return (candidate, seed), (data, candidate, seed, job, predictions)

    todo = deque(task(c, seed) for seed in seeds for c in candidates if (c.trial, seed) not in done)
    num_todo = len(todo)
    lines, epochs = JsonLines(folder.retrained), JsonLines(folder.epochs)
    num_done = 0
    nodes = _node_watch(ray, data, job, say) if plan.ranks == 1 else None
    progress(0, num_todo, "")
    try:
        with closing(
            run_tasks(
                ray,
                retrain_one,
                todo,
                plan.per_trial,
                plan.concurrent if plan.ranks > 1 else None,
                epoch=lambda item: _epochs_done(job, *item),
                hangs=Hangs(lambda item: _heartbeat(job, *item), limit(settings.trial_timeout, _longest_epoch(folder))),
                say=say,
                nodes=nodes,
                name=lambda item: _name(*item),
            )
        ) as ended:
            for (candidate, seed), outcome in ended:
                result, curve = outcome if isinstance(outcome, tuple) else (_line_of(candidate, seed, job, outcome), [])
                if result["status"] == STORAGE_FAILED:
                    raise OSError(result["error"])
                if result["status"] == TrialStatus.OUT_OF_MEMORY and candidate.micro_batches == 1:
                    todo.append(task(replace(candidate, micro_batches=MICRO_BATCHES), seed))
                    continue
                for record in curve:
                    epochs.append(record)
                _fetch(folder, result)
                lines.append(result)
                storage.delete(_checkpoint(job, candidate, seed))
                num_done += 1
                tell(candidate, result, curve)
                progress(num_done, num_todo, f"{_name(candidate, seed)}: {_outcome(result)}")
        storage.sync(job.checkpoints)  # otherwise a power failure could bring deleted checkpoints back
    finally:
        lines.close()
        epochs.close()
        if nodes is not None:
            nodes.close()
    return num_done


def _node_watch(ray: Any, data: SharedData, job: Job, say: Callable[[str], None]) -> NodeWatch | None:
    """Return the watch over the nodes of a cluster, so that those that join run trainings too; None on this machine."""
    if data.checked_nodes is None:
        return None
    from winnow.search.ray_backend.late_nodes import NodeWatch

    images = [(data.reference, data.fingerprint)]
    return NodeWatch(ray, data.checked_nodes, images, job.checkpoints, job.device, say)


def retrain_one(
    data: ImageData | SharedData, candidate: Candidate, seed: int, job: Job, predictions: str
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train a candidate once, from its checkpoint if there is one, and test it once.

    Args:
        data: The images.
        candidate: The config to train.
        seed: Seed of this training.
        job: The settings that all trainings share.
        predictions: Folder or URI to which the predictions on the test images are written.

    Returns:
        The line for `retrain.jsonl`, and the lines of the epochs.

    Raises:
        RankLost: The training has to continue in another process.
    """
    from winnow.search.training.prints import printing_to

    started = time.monotonic()
    curve: list[dict[str, Any]] = []
    stem = _stem(candidate, seed)
    arguments = {"candidate": candidate, "seed": seed, "job": job, "predictions": predictions, "stem": stem}
    prints = storage.join(job.checkpoints, retraining_prints_name(stem))
    figures: dict[str, Any] = {}
    try:
        with printing_to(prints):
            for record in train_on(data, stem, _alive, prints, **arguments):
                if "status" in record:
                    figures = record
                else:
                    curve.append(record)
    except RankLost:
        raise
    except (Exception, SystemExit) as error:
        figures = dict(zip(("status", "error"), failure(error), strict=True))
        figures["wall_seconds"] = round(time.monotonic() - started, 3)
    # Not in the handler above: until it ends, the exception keeps the frames that hold the tensors of the training.
    if figures["status"] == TrialStatus.OUT_OF_MEMORY or job.shares_gpu:
        release_memory()
    return {**_line_of(candidate, seed, job), **figures}, curve


def _name(candidate: Candidate, seed: int) -> str:
    return f"{candidate.label}, seed {seed}"


def _stem(candidate: Candidate, seed: int) -> str:
    return retraining_stem(candidate.trial, seed, is_baseline=candidate.rank is None)


def _checkpoint(job: Job, candidate: Candidate, seed: int) -> str:
    return storage.join(job.checkpoints, _checkpoint_name(_stem(candidate, seed)))


def _checkpoint_name(stem: str) -> str:
    return f"retraining-{stem}.pt"


def _discard_left(job: Job, recorded: Sequence[Mapping[str, Any]]) -> None:
    """Delete the checkpoints of recorded trainings that an earlier start has left: it was killed, or its storage failed."""
    left = set(storage.names(job.checkpoints))
    for line in recorded:
        name = _checkpoint_name(retraining_stem(line["trial"], line["seed"], is_baseline=line["baseline"]))
        if name in left:
            storage.delete(storage.join(job.checkpoints, name))


def _heartbeat(job: Job, candidate: Candidate, seed: int) -> str:
    return storage.join(job.checkpoints, f".retraining-{_stem(candidate, seed)}.beat")


def _longest_epoch(folder: RunFolder) -> float | None:
    """Return the seconds of the longest epoch that the run has recorded; None if there is none."""
    return max((line["wall_seconds"] for line in read_epochs(folder.epochs) if line.get("wall_seconds")), default=None)


def _state(job: Job, candidate: Candidate, seed: int) -> dict[str, Any] | None:
    """Return the checkpoint of exactly this training; None if there is none."""
    from winnow.search.training.checkpoint import CorruptCheckpoint, load

    try:
        state = load(_checkpoint(job, candidate, seed))
    except (FileNotFoundError, CorruptCheckpoint):
        return None
    is_same = (state["config"], state["keep_validation"]) == (candidate.config, candidate.keep_validation)
    return state if is_same else None


def _epochs_done(job: Job, candidate: Candidate, seed: int) -> int:
    state = _state(job, candidate, seed)
    return state["epoch"] if state else 0


def _line_of(candidate: Candidate, seed: int, job: Job, failed: Failed | None = None) -> dict[str, Any]:
    """Return the line for `retrain.jsonl`, without the figures of the training."""
    return {
        "rank": candidate.rank,
        "trial": candidate.trial,
        "seed": seed,
        "baseline": candidate.rank is None,
        "config": candidate.config,
        "search_value": candidate.search_value,
        **candidate.of_repeats,
        "threads": job.threads,
        "micro_batches": candidate.micro_batches,
        "keep_validation": candidate.keep_validation,
        "time": now(),
        **({"status": failed.status, "error": failed.text} if failed else {}),
    }


def _fetch(folder: RunFolder, result: dict[str, Any]) -> None:
    """Copy weights and predictions of a finished training from the storage into the run folder, where report and export look."""
    if folder.shared == str(folder.path.resolve()):
        return
    for name in (result.get("weights"), result.get("predictions")):
        if name is not None:
            storage.write(str(folder.path / name), storage.read(storage.join(folder.shared, name)))


def _alive(
    data: ImageData, team: Team | None, candidate: Candidate, seed: int, job: Job, **more: Any
) -> Generator[dict[str, Any], None, None]:
    """Run `_train_and_test` with a heartbeat."""
    with beating(_heartbeat(job, candidate, seed), candidate.config.get("train") is None):
        yield from _train_and_test(data, team, candidate, seed, job, **more)


def _train_and_test(
    data: ImageData, team: Team | None, candidate: Candidate, seed: int, job: Job, predictions: str, stem: str
) -> Generator[dict[str, Any], None, None]:
    """Yield the line of each epoch, and at the end the figures that `retrain.jsonl` records."""
    from winnow.models import summarize
    from winnow.search.training.checkpoint import Interval, save
    from winnow.search.training.device_data import DeviceData
    from winnow.search.training.final_test import evaluate_test_set
    from winnow.search.training.loop import train
    from winnow.search.training.ranks import Task
    from winnow.spaces.schema import Config

    started = time.monotonic()
    device = prepare(job, team)
    config = Config.model_validate(candidate.config)
    use: Literal["search", "retrain"] = "search" if candidate.keep_validation else "retrain"
    on_device = DeviceData.build(data, config.data, device, job.seed, use)
    pieces = candidate.micro_batches
    with storage_errors(job.checkpoints):
        state = _state(job, candidate, seed)
    history: list[dict[str, Any]] = state.pop("history") if state else []
    earlier = math.fsum(line["wall_seconds"] or 0.0 for line in history)  # the epochs of interrupted starts
    yield from history
    if team is not None:
        team.begin(Task(config, job.seed, use, seed, state, pieces))
    result, interval = None, Interval(job.checkpoint_seconds)
    for result in train(config, on_device, device, seed, checkpoint=state, micro_batches=pieces, team=team):
        figures = {**result.figures(), **where_trained(device, job, result.replays_graphs)}
        history.append(epoch_line("retrain", seed, figures, trial=candidate.trial))
        yield history[-1]
        # The last epoch needs no checkpoint: what follows takes less time than an epoch.
        if not result.last and interval.is_due(result.epoch, result.last):
            about = {"history": history, "config": candidate.config, "keep_validation": candidate.keep_validation}
            with storage_errors(job.checkpoints):
                save(_checkpoint(job, candidate, seed), {**result.state(), **about})
    assert result is not None  # there is at least one epoch, and no checkpoint is written after the last one
    if result.diverged:
        yield {
            "status": TrialStatus.DIVERGED,
            "epochs": result.epoch,
            "wall_seconds": round(earlier + time.monotonic() - started, 3),
        }
        return
    weights = result.weights()
    weights_name = f"winner-{stem}.pt"
    normalization = {"mean": list(on_device.mean), "std": list(on_device.std)}
    with storage_errors(job.checkpoints):
        test = evaluate_test_set(config, weights, on_device, data, storage.join(predictions, f"{stem}.npz"))
        save(
            storage.join(job.checkpoints, weights_name),
            {"weights": weights, "config": candidate.config, "normalization": normalization},
        )
    summary = summarize(config.model, data.image_shape, data.num_classes)
    yield {
        "status": TrialStatus.COMPLETED,
        **test,
        "train_loss": result.train_loss,
        "train_accuracy": result.train_accuracy,
        "epochs": result.epoch,
        "weights_epoch": result.weights_epoch,
        "num_parameters": summary.num_parameters,
        "multiply_adds": summary.multiply_adds,
        "images_per_second": result.images_per_second,
        **where_trained(device, job, result.replays_graphs),
        "predictions": f"predictions/{stem}.npz",
        "weights": f"checkpoints/{weights_name}",
        "wall_seconds": round(earlier + time.monotonic() - started, 3),
    }


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] == TrialStatus.COMPLETED:
        return (
            f"test accuracy {result['test_accuracy']:.4f} ({result['epochs']} epochs, {result['wall_seconds']:.0f} s)"
        )
    last_line = result.get("error", "").strip().splitlines()[-1:]
    return result["status"] + (f": {last_line[0]}" if last_line else "")
