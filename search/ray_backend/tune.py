"""Connects the search to Ray Tune: a searcher and a scheduler that pass on the decisions of the ledger.

Every start is a fresh `Tuner.fit()`; Tune's own snapshots are never restored. A Tune trial carries the number of the trial in
the study, by which the trainable finds its checkpoint.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from winnow.search.ray_backend.hangs import HangWatch
from winnow.search.ray_backend.late_nodes import NodeWatch, on_checked_nodes
from winnow.search.ray_backend.lean_tune import forget_results, lean_tune
from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.ray_backend.shared_data import Job, SharedData
from winnow.search.ray_backend.waiting import WaitingNotice
from winnow.search.ray_backend.worker import WHERE_TRAINED, run_trial, trial_name
from winnow.search.ray_backend.worker_errors import (
    had_not_begun,
    killed_by_kernel,
    killed_for_memory,
    lost_tasks_as_deaths,
    raised_by_worker,
)
from winnow.search.storage.leftovers import temporary_errors, temporary_folder
from winnow.search.study.ledger import Ledger
from winnow.spaces.epoch_figures import EPOCH_FIGURES
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.search.ray_backend.shared_data import RankGroups

HARD_STOP_SECONDS = 60.0  # time after the end of the time budget for which running epochs are waited for


@dataclass(frozen=True)
class Resources:
    """Ray resources of one trial: CPUs, and GPUs or a fraction of one."""

    cpus: float
    gpus: float
    shares: Mapping[str, float] = field(default_factory=dict)
    """The share of a GPU that a trial gets, by kind of GPU; empty if it is the same for all kinds."""

    @property
    def per_trial(self) -> dict[str, float]:
        """The resources that every trial requests, which never exceed the share of any kind of GPU.

        The placement decides how much is reserved. A trial that requested a whole GPU could wait until the search ends.
        """
        return {"cpu": self.cpus, "gpu": min(self.shares.values(), default=self.gpus)}


@dataclass(frozen=True)
class Outcome:
    """The reason why a search ended. The search is complete if no reason is set.

    Attributes:
        interrupted: Whether a signal ended it.
        out_of_time: Whether the time budget ended it.
        bug: The traceback with which too many trials ended; None if there was none.
        wall_seconds: Duration of this start, in seconds.
        at_once: Whether a second signal ended it, before the running epochs were complete.
        no_gain: Why it was not worth continuing, if `search.stop_when` ended it; otherwise empty.
    """

    interrupted: bool
    out_of_time: bool
    bug: str | None
    wall_seconds: float
    at_once: bool = False
    no_gain: str = ""


def run_search(
    ledger: Ledger, data: SharedData, job: Job, resources: Resources, concurrent: int, say: Callable[[str], None]
) -> Outcome:
    """Run trials until the ledger has no more, the time budget is used up, or a signal asks to stop.

    Args:
        ledger: Ledger of the study, which decides about the trials.
        data: The images.
        job: Settings that all trials share.
        resources: Ray resources of one trial.
        concurrent: Number of concurrent trials.
        say: Receives messages for the user, such as one for each worker that is lost and each node that joins.

    Returns:
        The reason why the search ended.

    Raises:
        OSError: A file of the run cannot be written, for example on a full disk; raised after Tune has released the workers.
        InputError: Temporary files cannot be written.
    """
    nodes = None
    if data.checked_nodes is not None:
        images = [(data.reference, data.fingerprint)]
        nodes = NodeWatch(ray, data.checked_nodes, images, job.checkpoints, job.device, say, resources.shares)
    stopping = StopController(ledger, say, HangWatch(ledger, job.checkpoints, say), data.groups, concurrent, nodes)
    # By default, only one trial at a time may wait for its worker, so hundreds of workers would be started one after another.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(concurrent)
    searcher = StudySearcher(ledger, stopping, concurrent)
    trainable = tune.with_resources(tune.with_parameters(run_trial, data=data, job=job), resources.per_trial)
    # Tune always writes files; these are never read. Errors of the run's own files are in `stopping.error`.
    with temporary_errors(ledger.folder.command("resume")), temporary_folder("tune") as storage:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                num_samples=-1,
                search_alg=searcher,
                scheduler=LedgerScheduler(ledger, stopping, searcher.numbers),
                reuse_actors=True,
                trial_name_creator=_tune_name,
                trial_dirname_creator=_tune_name,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=storage,
                stop=stopping,
                callbacks=[stopping, stopping.hangs, WaitingNotice(say, resources.per_trial)],
                verbose=0,
                progress_reporter=NoReporter(),
            ),
        )
        with stopping.on_signals(), lean_tune(), lost_tasks_as_deaths(), on_checked_nodes(nodes):
            tuner.fit()
    if stopping.error is not None:
        raise stopping.error
    wall_seconds = time.monotonic() - stopping.started
    by_signal, at_once = stopping.num_signals > 0, stopping.num_signals > 1
    no_gain = str(ledger.gain) if ledger.no_gain else ""
    return Outcome(by_signal, stopping.out_of_time, ledger.bug, wall_seconds, at_once, no_gain)


class StopController(NotPickled, tune.Stopper, tune.Callback):
    """Ends a search: on a signal, after the time budget, or when nothing can be written.

    The running epochs are completed first. `stop_all` returns True once no epoch runs, or once it is too late to wait for them.
    """

    def __init__(
        self,
        ledger: Ledger,
        say: Callable[[str], None],
        hangs: HangWatch,
        groups: RankGroups | None = None,
        concurrent: int = 1,
        nodes: NodeWatch | None = None,
    ) -> None:
        self.ledger = ledger
        self.nodes = nodes
        self.concurrent = concurrent
        self.say = say
        self.groups = groups
        self.hangs = hangs
        self.started = time.monotonic()
        self.next_note = 0.0
        self.num_signals = 0
        self.out_of_time = False
        self.error: OSError | None = None
        self.running: set[str] = set()  # Tune's ids of trials whose epoch is waited for before the search ends
        ledger.grouped = True  # `stop_all` calls `settle` after every step of Tune, even if nothing happens

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        with self.on_storage_errors():
            self.hangs.check()
            if self.nodes is not None:
                self.nodes.look()
            self.ledger.settle()
        budget = self.ledger.settings.time_budget_seconds
        elapsed = time.monotonic() - self.started
        if budget is not None:
            if elapsed >= self.next_note:
                self.next_note = elapsed + 1.0  # Tune calls this at every event, and all open trials are gone through
                self.ledger.goal.note_time_left(budget - elapsed, self.concurrent)
            if elapsed > budget:
                self.out_of_time = True
                self.ledger.wind_down()
        if self.num_signals:
            self.ledger.wind_down()
        too_late = budget is not None and elapsed > budget + HARD_STOP_SECONDS
        return (
            self.num_signals > 1
            or self.error is not None
            or too_late
            or (self.ledger.winding_down and not self.running)
        )

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that the epoch of a trial is waited for, unless the search is already winding down.

        A trial that Tune starts while the search winds down has not done anything yet, so it is not waited for.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        if not self.ledger.winding_down:
            self.running.add(trial.trial_id)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Free the memory that Tune keeps for a trial that has ended.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        forget_results(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Record that the worker of a trial was lost, or killed for the memory that it used.

        Tune does not retry the trial; the ledger starts it again.

        Args:
            iteration: Number of steps of Tune's loop so far; not used.
            trials: All trials of Tune; not used.
            trial: The trial.
            **info: Further arguments of Tune; not used.
        """
        if trial.trial_id in self.hangs.given_up:
            return  # the trial stays open
        with self.on_storage_errors():
            number, cause = _number(trial), raised_by_worker(trial.pickled_error_file)
            if self.groups is not None:
                self.groups.recall(trial_name(number))
            memory = killed_for_memory(trial.error_file) or killed_by_kernel(self.hangs.last_beat(trial))
            if memory is not None:
                self.say(f"trial {number}: {memory}")
                self.ledger.record(number, {"status": TrialStatus.OUT_OF_MEMORY, "error": memory})
            elif had_not_begun(cause):
                self.ledger.lost(number, cause, began=False)
                self.say(f"trial {number}: {cause.splitlines()[-1].partition(': ')[2]}; it starts in another process")
            elif self.ledger.lost(number, cause):
                why = f" ({cause.splitlines()[-1]})" if cause else ""
                self.say(f"trial {number}: its worker was lost{why}; it continues from its checkpoint on another one")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle Ctrl-C and SIGTERM (sent by Slurm): the first signal waits for the running epochs, the second stops at once.

        Only the main thread may set handlers; a search in another thread leaves signals to its program.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def count(signum: int, frame: FrameType | None) -> None:
            self.num_signals += 1
            self.ledger.wind_down()

        before = {number: signal.signal(number, count) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def on_storage_errors(self) -> Iterator[None]:
        """Store an error and wind down. If it were raised inside Tune's loop, workers would be left running."""
        try:
            yield
        except OSError as error:
            self.error = error
            self.ledger.wind_down()


class StudySearcher(NotPickled, Searcher):
    """Asks the ledger for a trial only when a worker is free, so that each suggestion uses as many results as possible."""

    def __init__(self, ledger: Ledger, stopping: StopController, concurrent: int) -> None:
        super().__init__(metric=ledger.settings.objective, mode=ledger.settings.direction[:3])
        self.ledger = ledger
        self.stopping = stopping
        self.concurrent = concurrent
        self.numbers: dict[str, int] = {}  # Tune's id -> number in the study, of the trials that have not ended

    def suggest(self, trial_id: str) -> Any:
        with self.stopping.on_storage_errors():
            assignment = self.ledger.ask() if len(self.numbers) < self.concurrent else None
            if assignment is not None:
                self.numbers[trial_id] = assignment.number
                return {"number": assignment.number, "assignment": assignment.to_json()}
        return Searcher.FINISHED if self.ledger.finished else None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Free the place of a Tune trial that ended, so that another trial can be suggested.

        Args:
            trial_id: Tune's id of the trial.
            result: Its last report; not used.
            error: Whether it ended with an error; not used.
        """
        self.stopping.running.discard(trial_id)
        self.numbers.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is in its journal."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: every start begins with an empty Tune."""

    def __deepcopy__(self, memo: dict[int, Any]) -> StudySearcher:
        return self


class LedgerScheduler(NotPickled, FIFOScheduler):
    """Passes every report to the ledger, and its decision back to Tune.

    A late report from a Tune trial whose worker was lost changes nothing: by then another worker trains the trial of the study.
    """

    def __init__(self, ledger: Ledger, stopping: StopController, running: Container[str]) -> None:
        super().__init__()
        self.ledger = ledger
        self.stopping = stopping
        self.running = running  # Tune's ids

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Return None, so that Tune starts waiting trials in its own order. Ray's FIFO scheduler would go through all past trials.

        Args:
            tune_controller: Tune's controller, in a wrapper.
        """
        self.stopping.hangs.note_starting(tune_controller._tune_controller)
        return None

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Record a report, and decide whether the trial continues.

        Args:
            tune_controller: Tune's controller; not used.
            trial: The trial.
            result: The report of a worker, with keys that Tune adds.

        Returns:
            `CONTINUE` or `STOP`.
        """
        if trial.trial_id not in self.running:
            return self.STOP
        continues = False
        with self.stopping.on_storage_errors():
            number = _number(trial)
            if "num_parameters" in result:
                self.ledger.note_size(number, {key: result[key] for key in SIZES if key in result})
            continues = self.ledger.record(number, {key: result[key] for key in REPORTED if key in result})
        return self.CONTINUE if continues else self.STOP


REPORTED = ("status", "error", *(figure.name for figure in EPOCH_FIGURES), *WHERE_TRAINED)
"""The keys of a report that the ledger receives; Tune adds others."""

SIZES = ("num_parameters", "multiply_adds", "latency_ms", "device")
"""The keys of a trial's first report that the study keeps as attributes of the trial."""


class NoReporter(tune.ProgressReporter):
    """A reporter that prints nothing. In a notebook, Tune's own would clear the output of the cell, even with verbose=0."""

    def should_report(self, trials: list[Trial], done: bool = False) -> bool:
        """Return False: nothing is printed.

        Args:
            trials: All trials of Tune; not used.
            done: Whether the search has ended; not used.
        """
        return False

    def report(self, trials: list[Trial], done: bool, *sys_info: Any) -> None:
        """Print nothing, since the view shows the search.

        Args:
            trials: All trials of Tune; not used.
            done: Whether the search has ended; not used.
            *sys_info: Lines about the machine; not used.
        """


def _tune_name(trial: Trial) -> str:
    # A paused trial continues under the same number, but as another trial of Tune.
    return f"{trial_name(_number(trial))}-{trial.trial_id}"


def _number(trial: Trial) -> int:
    """Return the number in the study of a Tune trial."""
    return int(trial.config["number"])
