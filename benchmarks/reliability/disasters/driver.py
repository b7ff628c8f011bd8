"""The loop of Ray Tune without Ray: workers one epoch at a time, in an order that the seed decides.

The searcher, the scheduler and the stopper are the real ones of `winnow.search.ray_backend.tune`, and the worker code is the real
`trial_reports`.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from ray.tune.search import Searcher

from benchmarks.reliability.disasters.disk import FailingDisk
from benchmarks.reliability.disasters.faults import ProcessKilled
from benchmarks.reliability.disasters.processes import Process
from benchmarks.reliability.disasters.training import DATA
from winnow.search.ray_backend.hangs import HangWatch
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.silence import STARTING, limit
from winnow.search.ray_backend.tune import LedgerScheduler, Outcome, StopController, StudySearcher
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.resources.plan import ResourcePlan
from winnow.search.storage.leftovers import temporary_folder
from winnow.search.storage.remote import join
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.search.training.errors import RankLost
from winnow.search.training.heartbeat import write_beat
from winnow.search.training.process_state import SpoiledProcess

MOST_DEATHS = 1
"""Deaths of workers in one start, besides those by a fault of the disk and a broken device; more would end a trial as lost."""
LONGEST_WAIT = 7 * 86400.0
"""Simulated seconds that a start may wait for workers that hang."""
LONGEST_AFTER_SIGNAL = 25.0
"""Simulated seconds after Ctrl-C for which a start may wait for a worker that gives no sign of life."""


class Wrong(Exception):
    """Something that must not be; the message says what."""


@dataclass
class Troubles:
    """The faults that workers meet in one start, as shares of their epochs.

    Attributes:
        dies: The worker dies, before or after its epoch is on the disk.
        repeats: The report arrives twice.
        hangs: The worker never reports again.
        slow: The epoch takes long: without a sign of life for nearly as long as that is allowed, or longer with heartbeats.
        late: A report of a worker that died arrives all the same, later.
        outlives: A worker whose driver was killed trains on beside the next driver.
        signal_after: The number of reports after which Ctrl-C is pressed; None: it is not.
        impatient: Ctrl-C is pressed while no worker reports, as a share of minutes.
    """

    dies: float = 0.0
    repeats: float = 0.0
    hangs: float = 0.0
    slow: float = 0.0
    late: float = 0.0
    outlives: float = 0.0
    signal_after: int | None = None
    impatient: float = 0.0


@dataclass
class World:
    """The state that all starts of one history share."""

    rng: random.Random
    disk: FailingDisk
    workers: int
    clock: Callable[[], float]
    wait: Callable[[float], None]
    troubles: Troubles = field(default_factory=Troubles)
    events: list[str] = field(default_factory=list)
    hung: set[int] = field(default_factory=set)
    orphans: list[_Worker] = field(default_factory=list)
    workers_started: list[_Worker] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.events.append(text)

    def close(self) -> None:
        """End all trainings that have not ended, such as those of a driver that was killed."""
        with self.disk.silenced():
            for worker in self.workers_started:
                worker.close()


@dataclass
class _Worker:
    """A worker and its training.

    Attributes:
        trial: The trial of Tune.
        reports: The training.
        process: Its process.
        busy_until: The time at which its slow epoch ends, infinity if it hangs; None if it is neither slow nor hangs.
        beats: Whether it gives signs of life meanwhile.
        num_beats: Number of signs of life that it has given.
        ignored: Seconds without one after Ctrl-C.
    """

    trial: Any
    reports: Generator[dict[str, Any], None, None]
    process: Process
    busy_until: float | None = None
    beats: bool = False
    num_beats: int = 0
    ignored: float = 0.0

    def next(self) -> dict[str, Any] | None:
        """Train until the next report, in the process of this worker; None at the end."""
        with self.process.running():
            return next(self.reports, None)

    def close(self) -> None:
        """End the training, which restores the state of its process."""
        with self.process.running():
            self.reports.close()


class _Loop:
    def __init__(self, world: World, ledger: Ledger, job: Job, say: Callable[[str], None]) -> None:
        self.world = world
        self.job = job
        self.hangs = HangWatch(ledger, job.checkpoints, say, world.clock, self._kill)
        self.stopping = StopController(ledger, say, self.hangs)
        self.searcher = StudySearcher(ledger, self.stopping, world.workers)
        self.scheduler = LedgerScheduler(ledger, self.stopping, self.searcher.numbers)
        self.active: list[_Worker] = []
        self.idle: list[Process] = []
        """Processes whose trials have ended; Tune uses them again."""
        self.late: list[tuple[Any, dict[str, Any]]] = []
        self.num_reports = 0
        self.num_started = 0
        self.num_deaths = 0
        self.longest_epoch = 0.0

    def run(self) -> Outcome:
        try:
            return self._run()
        except ProcessKilled:
            self._outlive()
            raise

    def _run(self) -> Outcome:
        waited = 0.0
        while not self.stopping.stop_all():
            waiting = self._fill()
            if not self.active:
                if waiting:
                    raise Wrong("no trial runs, none can start, and the search is not finished")
                break
            if not self._ready():
                waited += self._wait()
                if waited > LONGEST_WAIT:
                    raise Wrong("all workers hang, and nobody notices")
                continue
            # A step of Tune's may hold several reports before it asks whether to stop.
            for _ in range(self.world.rng.randint(1, 6)):
                if ready := self._ready():
                    self._advance(self.world.rng.choice(ready))
        for worker in self.active:
            self._drop(worker)
        if self.stopping.error is not None:
            raise self.stopping.error
        stopping = self.stopping
        return Outcome(stopping.num_signals > 0, False, stopping.ledger.bug, 1.0, stopping.num_signals > 1)

    def _ready(self) -> list[_Worker]:
        """The workers that can report now."""
        now = self.world.clock()
        return [worker for worker in self.active if worker.busy_until is None or worker.busy_until <= now]

    def _wait(self) -> float:
        """Let time pass in which no worker reports, and return the seconds."""
        if self.stopping.num_signals == 0 and self.world.rng.random() < self.world.troubles.impatient:
            self._press_ctrl_c()
        signalled = self.stopping.num_signals > 0
        ends = min(worker.busy_until or 0.0 for worker in self.active) - self.world.clock()
        seconds = min(5.0 if signalled else 60.0, ends)
        self.world.wait(seconds)
        for worker in list(self.active):
            if worker.beats:
                self._beat(worker)
            elif signalled:
                worker.ignored += seconds
                if worker.ignored > LONGEST_AFTER_SIGNAL:
                    raise Wrong("Ctrl-C waits for a trial that gives no sign of life")
        return seconds

    def _beat(self, worker: _Worker) -> None:
        """Write the heartbeat of a training, as its loop does after a batch."""
        worker.num_beats += 1
        name = heartbeat_name(int(worker.trial.config["number"]))
        try:
            with suppress(OSError):
                write_beat(join(self.job.checkpoints, name), f"{worker.num_beats} 0 simulated".encode())
        except ProcessKilled:
            self.world.disk.revive()
            self._lose(worker, None)

    def _slow_down(self, worker: _Worker) -> None:
        """Begin an epoch that takes long. Until its first batch, which ends before half of them, a worker may be silent for longer."""
        rng = self.world.rng
        allowed = limit(self.stopping.ledger.settings.trial_timeout, self.longest_epoch)
        worker.beats = rng.random() < 0.5
        if rng.random() < 0.5:
            self._beat(worker)
        if worker.beats:
            seconds = rng.uniform(1.2, 3.0) * allowed
        else:
            seconds = rng.uniform(0.3, 0.95) * (allowed if worker.num_beats else max(allowed, STARTING))
        worker.busy_until = self.world.clock() + seconds
        self.world.note(f"trial {worker.trial.config['number']} is slow for {seconds:.0f} s, beats: {worker.beats}")

    def _press_ctrl_c(self) -> None:
        self.world.note("Ctrl-C")
        self.stopping.num_signals += 1
        self.stopping.ledger.wind_down()

    def _outlive(self) -> None:
        """The driver is dead: some workers end the epoch that they are in, and some continue for longer."""
        disk, rng = self.world.disk, self.world.rng
        disk.revive()
        for worker in self.active:
            if rng.random() < 0.5:
                with suppress(RankLost):
                    worker.next()
                self.world.note(f"trial {worker.trial.config['number']} continues without its driver")
                if rng.random() < self.world.troubles.outlives:
                    self.world.orphans.append(worker)
        disk.die()

    def _fill(self) -> bool:
        """Start trials while the searcher gives some; whether it might give more later."""
        while len(self.active) < self.world.workers:
            name = f"tune-{self.num_started}"
            suggestion = self.searcher.suggest(name)
            if suggestion is None or suggestion == Searcher.FINISHED:
                return suggestion is None
            self.num_started += 1
            trial = SimpleNamespace(trial_id=name, config=suggestion, pickled_error_file=None, error_file=None)
            assignment = Assignment.from_json(suggestion["assignment"])
            self.world.note(f"start {assignment.number} from {assignment.recorded}")
            process = self.idle.pop(self.world.rng.randrange(len(self.idle))) if self.idle else Process()
            worker = _Worker(trial, trial_reports(assignment, DATA, self.job), process)
            self.active.append(worker)
            self.world.workers_started.append(worker)
            for callback in (self.stopping, self.hangs):
                callback.on_trial_start(0, [], trial)
        return True

    def _advance(self, worker: _Worker) -> None:
        """Train one epoch on a worker, and pass its report on."""
        rng, troubles = self.world.rng, self.world.troubles
        if self.world.orphans and rng.random() < 0.3:
            with suppress(RankLost, ProcessKilled):
                rng.choice(self.world.orphans).next()
            self.world.disk.revive()
        if rng.random() < troubles.hangs:
            self.world.note(f"trial {worker.trial.config['number']} hangs")
            worker.busy_until, worker.beats = math.inf, False
            self.world.hung.add(int(worker.trial.config["number"]))
            return None
        if worker.busy_until is None and rng.random() < troubles.slow:
            return self._slow_down(worker)
        worker.busy_until = None
        dies = self.num_deaths < MOST_DEATHS and rng.random() < troubles.dies
        if dies and rng.random() < 0.5:
            return self._lose(worker, None)
        try:
            report = worker.next()
        except SpoiledProcess as error:
            worker.trial.pickled_error_file = f"Traceback ...\n{SpoiledProcess.__name__}: {error}"
            return self._lose(worker, None)
        except (ProcessKilled, RankLost):
            self.world.disk.revive()
            return self._lose(worker, None)
        if dies:
            return self._lose(worker, report)
        if report is None:
            return self._complete(worker)
        if not self._deliver(worker.trial, report):
            self._complete(worker)
        if rng.random() < troubles.repeats:
            self._deliver(worker.trial, report)
        if self.late and rng.random() < 0.5:
            self._deliver(*self.late.pop())
        return None

    def _deliver(self, trial: Any, report: dict[str, Any]) -> bool:
        self.num_reports += 1
        if self.num_reports == self.world.troubles.signal_after:
            self._press_ctrl_c()
        self.longest_epoch = max(self.longest_epoch, report.get("wall_seconds", 0.0))
        self.world.note(f"report {trial.config['number']} {report.get('epoch', report.get('status'))}")
        self.hangs.on_trial_result(0, [], trial, report)
        return self.scheduler.on_trial_result(None, trial, report) == LedgerScheduler.CONTINUE

    def _kill(self, trial: Any) -> None:
        """Kill a worker that hangs, as the watch does; Tune then reports an error of its trial."""
        worker = next(worker for worker in self.active if worker.trial is trial)
        self._lose(worker, None)

    def _lose(self, worker: _Worker, unseen: dict[str, Any] | None) -> None:
        self.num_deaths += worker.trial.pickled_error_file is None
        self.world.note(f"lost {worker.trial.config['number']}")
        if unseen is not None and self.world.rng.random() < self.world.troubles.late:
            self.late.append((worker.trial, unseen))
        for callback in (self.stopping, self.hangs):
            callback.on_trial_error(0, [], worker.trial)
        self.searcher.on_trial_complete(worker.trial.trial_id, error=True)
        self._drop(worker)
        self.active.remove(worker)

    def _complete(self, worker: _Worker) -> None:
        self.hangs.on_trial_complete(0, [], worker.trial)
        self.searcher.on_trial_complete(worker.trial.trial_id, {})
        self._drop(worker)
        self.active.remove(worker)
        self.idle.append(worker.process)

    def _drop(self, worker: _Worker) -> None:
        with self.world.disk.silenced():
            worker.close()


def _run_tasks(world: World) -> Callable[..., Iterator[tuple[Any, Any]]]:
    def run_tasks(
        ray: Any, function: Callable[..., Any], todo: deque[tuple[Any, tuple[Any, ...]]], *_: Any, **__: Any
    ) -> Iterator[tuple[Any, Any]]:
        process = Process()
        while todo:
            item, arguments = todo.popleft()
            while True:
                if process.spoiled:  # Winnow ends it
                    process = Process()
                try:
                    with process.running():
                        result = function(*arguments)
                except (ProcessKilled, RankLost):
                    world.disk.revive()
                    world.note("a retraining is lost")
                    process = Process()
                    continue
                yield item, result
                break

    return run_tasks


@contextmanager
def simulated_backend(world: World) -> Iterator[None]:
    """Run searches and retrainings on simulated workers within this context."""
    plan = ResourcePlan("cpu", world.workers, 1.0, 0.0, 1, "simulated")

    @contextmanager
    def backend(*_: Any) -> Iterator[tuple[Any, ResourcePlan, list[Any]]]:
        yield None, plan, [DATA]

    def run_search(
        ledger: Ledger, data: Any, job: Job, resources: Any, concurrent: int, say: Callable[[str], None]
    ) -> Outcome:
        with temporary_folder("tune") as own:
            if left := {folder.name for folder in Path(own).parent.iterdir()} - {Path(own).name}:
                raise Wrong(f"temporary folders of earlier starts are left over: {left}")
            return _Loop(world, ledger, job, say).run()

    with (
        patch("winnow.search.operations.execution.backend", backend),
        patch("winnow.search.ray_backend.end_with_ray.own_servers", list),
        patch("winnow.search.ray_backend.tune.run_search", run_search),
        patch("winnow.search.ray_backend.tune.raised_by_worker", lambda text: text or ""),
        patch("winnow.search.winners.retraining.run_tasks", _run_tasks(world)),
    ):
        yield
