"""One seed, one history: a search and its retraining through disasters, each start checked, and the end compared with the truth."""

from __future__ import annotations

import gc
import io
import random
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.reliability.disasters.bugs import BUGS, IGNORED_FSYNC, STRUCK_BY
from benchmarks.reliability.disasters.disk import FailingDisk
from benchmarks.reliability.disasters.driver import Troubles, World, Wrong, simulated_backend
from benchmarks.reliability.disasters.faults import PowerCut, ProcessKilled
from benchmarks.reliability.disasters.invariants import (
    Acknowledged,
    check_advice,
    check_end,
    check_readable,
    check_report,
    check_swept,
    report_files,
    study_rows,
    with_status,
)
from benchmarks.reliability.disasters.scenario import SCENARIOS, scenario
from benchmarks.reliability.disasters.stand_ins import quick_serialization, stand_ins
from benchmarks.reliability.disasters.training import simulated_training
from winnow import reports
from winnow.reports.durable import part_of
from winnow.reports.reading.parquet_reader import fingerprint
from winnow.reports.run_data import RunData
from winnow.search.operations.execution import Execution
from winnow.search.operations.retraining import retrain
from winnow.search.operations.searching import NewRun, resume, search
from winnow.search.resources.plan import DeviceOptions
from winnow.search.settings import Settings
from winnow.search.storage import clock
from winnow.search.storage.leftovers import new_probe
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.amendments import RunChanges
from winnow.search.study.trials import Event
from winnow.search.views.view import View
from winnow.spaces.errors import InputError

STAGES = {"_search": ("resume",), "_extend": ("resume",), "_retrain": ("resume", "retrain")}
"""The starts of a history, and the commands that are over after each."""
FAULTS = ("kill", "kill", "power", "power", "full", "full", "error", "read")
FURTHER_FAULTS = {"_search": ("delete",), "_retrain": ("kill", "kill")}
"""Faults of one kind of start alone. A retraining deletes its checkpoint once its line is written, and may be killed in between."""
MOST_FAULTS = 4  # in one history
REPORTED = 0.05
"""Share of the starts after which a report is written."""
REPORT_OPERATIONS = 30
"""The operations of the disk for a report, of which a few write files in Python."""


@dataclass(frozen=True)
class Result:
    """The outcome of one history.

    Attributes:
        violations: What must not be, in words; empty if all is well.
        log: What happened, in order.
        starts: Starts of the search and of the retraining.
        faults: Faults that struck.
    """

    violations: tuple[str, ...]
    log: tuple[str, ...]
    starts: int
    faults: int


@contextmanager
def _one_collection() -> Iterator[None]:
    """Collect garbage once, at the end, and only what is new: with the objects of torch and Ray a collection takes 230 ms."""
    was_enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def simulate(seed: int, bug: str | None = None) -> Result:
    """Run the history of a seed.

    Args:
        seed: Decides everything.
        bug: A key of `BUGS`, which is put into the code; None: the code as it is.
    """
    with _one_collection(), quick_serialization(), BUGS[bug]() if bug else nullcontext():
        return _History(seed, bug).run()


class _Watch(View):
    """Records what the output told a user: none of it may be lost afterwards."""

    def __init__(self, acknowledged: Acknowledged) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._acknowledged = acknowledged

    def on_event(self, event: Event) -> None:
        self._acknowledged.note(event)

    def progress(self, done: int, total: int, text: str = "") -> None:
        self._acknowledged.note_retraining(text)


class _History:
    def __init__(self, seed: int, bug: str | None) -> None:
        self.only = STRUCK_BY.get(bug or "")
        self.rng = random.Random(f"history {seed}")
        self.number = seed % SCENARIOS
        self.scenario = scenario(self.number)
        self.root = Path(tempfile.mkdtemp(prefix="winnow-disasters-", dir=_memory()))
        self.disk = FailingDisk(self.root, self.rng, IGNORED_FSYNC.get(bug or ""))
        self.folder = RunFolder(self.root / "runs" / "r")
        self.disk.to_delete = self.folder.path
        self.temporary = self.root / "tmp"
        self.temporary.mkdir()
        self.world = World(self.rng, self.disk, self.scenario.workers, lambda: self.seconds, self._wait)
        self.acknowledged = Acknowledged()
        self.violations: list[str] = []
        self.starts = self.faults = 0
        self._last_read: RunData | None = None
        self.seconds = 1_700_000_000.0

    def run(self) -> Result:
        try:
            with self._simulated(), closing(self.world):
                for start, over in STAGES.items():
                    if not self.violations:
                        self._until_done(getattr(self, start))
                    if not self.violations:
                        self.violations += check_advice(self._read(), over)
                if not self.violations:
                    self._killed_commands()
                    self._new_process("once more", with_faults=False)
                    self._start(self._extend)  # a worker of a killed driver may have written a checkpoint since
                    self._start(self._retrain)
                    self.violations += check_swept(self.folder, self._read())
            if not self.violations:
                run = self._read()
                self.violations += check_end(self.folder, run, self.acknowledged, self.world.hung)
                if (
                    self.scenario.workers == 1
                    and not with_status(run, "timed_out")
                    and study_rows(run) != _undisturbed(self.number)
                ):
                    self.violations.append("the study differs from that of the undisturbed search")
        finally:
            shutil.rmtree(self.root)
        return Result(tuple(self.violations), tuple(self.world.events), self.starts, self.faults)

    def _read(self) -> RunData:
        """The run as a report reads it, which was read after the last start unless something has changed since."""
        if self._last_read is None:
            self._last_read = reports.read(self.folder.path)
        return self._last_read

    # --- starts -----------------------------------------------------------------------------------------------------------

    def _search(self) -> bool:
        """Begin the search or continue it; whether it is over."""
        if self.folder.study.exists():
            return self._resume(RunChanges())
        scenario, place = self.scenario, NewRun(self.root / "runs", "r")
        return not search(scenario.space, scenario.settings, place, self._execution)[1].interrupted

    def _extend(self) -> bool:
        """Extend the search, or continue the extension that the study has recorded; whether it is over."""
        asked = self.scenario.settings.num_trials + self.scenario.extension
        missing = asked - Settings.from_dict(self.folder.read_study()["settings"]).num_trials
        return self._resume(RunChanges(trials=missing or None))

    def _resume(self, changes: RunChanges) -> bool:
        return not resume(self.folder, changes, self._execution).interrupted

    def _retrain(self) -> bool:
        retrain(self.folder, self._execution)
        return True

    @property
    def _execution(self) -> Execution:
        return Execution(view=_Watch(self.acknowledged), devices=DeviceOptions())

    def _killed_commands(self) -> None:
        """Leave what a killed `winnow export` leaves, and a start that was killed while it checked its nodes."""
        (part_of(self.folder.path / "winner-1") / "member-1").mkdir(parents=True)
        (self.folder.path / new_probe()).touch()

    def _until_done(self, start: Any) -> None:
        """Start again and again, through the faults that are left, until it is over."""
        num_faults = self.rng.randint(0, MOST_FAULTS)
        for attempt in range(num_faults + 3):
            self._new_process(start.__name__, with_faults=attempt < num_faults)
            if self._start(start):
                return
            if self.violations:
                return
        self.violations.append(f"{start.__name__}: not over after {num_faults + 3} starts")

    def _start(self, start: Any) -> bool:
        done, told, self._last_read = False, "", None
        try:
            done = start()
        except (ProcessKilled, PowerCut) as error:
            self.faults += 1
            self._die(error)
        except InputError as error:
            self.world.note(f"refused: {error}".replace(str(self.root), ""))
            struck = self.disk.faults > 0
            self.faults += struck
            self.disk.disarm()  # what follows reads the run
            if self.disk.deleted:
                told = str(error)
            elif "nothing to retrain" in str(error) and not with_status(reports.read(self.folder.path), "completed"):
                done = True
            elif not struck:
                self.violations.append(f"{start.__name__} was refused without a fault: {error}")
            elif "cannot" not in str(error):
                self.violations.append(f"{start.__name__} was refused with another reason than the disk: {error}")
        except Wrong as error:
            self.violations.append(f"{start.__name__}: {error}")
        except Exception as error:
            self.world.note(traceback.format_exc())
            self.violations.append(f"{start.__name__} raised {type(error).__name__}: {error}")
        self.disk.revive()
        self.disk.disarm()
        if self.disk.deleted:
            self._forget(start.__name__, told)
            return False
        if not self.violations:
            self._last_read, wrong = check_readable(self.folder)
            self.violations += wrong
        if not self.violations and self.folder.study.exists() and self.rng.random() < REPORTED:
            self._report()
        return done

    def _die(self, error: ProcessKilled | PowerCut) -> None:
        self.world.note(type(error).__name__)
        if isinstance(error, PowerCut):
            self.world.orphans.clear()
            self.disk.cut_power()

    def _report(self) -> None:
        """Write the report through a fault, then once more without one. Each of its files is the old one or the new one at any time."""
        self._last_read = None
        before, source = report_files(self.folder), fingerprint(self.folder.path)
        fault, steps = self.rng.choice(FAULTS), self.rng.randrange(REPORT_OPERATIONS)
        self.world.note(f"report: {fault} after {steps} operations")
        self.disk.arm(fault, steps, at=self.rng.choice(("", "write")))
        try:
            reports.write(self.folder.path)
        except (ProcessKilled, PowerCut) as error:
            self._die(error)
        except InputError as error:
            if not self.disk.faults or "cannot" not in str(error):
                self.violations.append(f"a report was refused with another reason than the disk: {error}")
        except Exception as error:
            self.violations.append(f"a report raised {type(error).__name__}: {error}")
        self.faults += self.disk.faults > 0
        self.disk.revive()
        self.disk.disarm()
        during, is_same = report_files(self.folder), fingerprint(self.folder.path) == source
        try:
            reports.write(self.folder.path)
        except InputError as error:
            self.violations.append(f"a report is refused without a fault: {error}")
            return
        # A power cut may take back what a failed write has left in the run. The next report is then another.
        self.violations += check_report(before, during if is_same else {}, report_files(self.folder))

    def _forget(self, name: str, told: str) -> None:
        """The run was deleted during a start, which must not tell the user that something is kept. The next start searches again from the beginning."""
        if not told or "kept" in told or "othing is lost" in told:
            self.violations.append(f"{name}: the run was deleted, and the user is told: {told or 'nothing'}")
        shutil.rmtree(self.folder.path, ignore_errors=True)  # what workers have written since
        self.disk.deleted = False
        self.acknowledged = Acknowledged()
        self.world.hung.clear()
        self.world.orphans.clear()

    def _wait(self, seconds: float) -> None:
        self.seconds += seconds

    def _new_process(self, name: str, with_faults: bool) -> None:
        """The state of a process that starts: its clock, its troubles, and when a fault strikes."""
        rng = self.rng
        self.starts += 1
        self.folder = RunFolder(self.folder.path)  # another one remembers what the study said
        self.seconds += rng.choice([0.0, 1.0, 3600.0])
        clock._earliest = 0.0
        clock._OFFSET = rng.choice([0.0, 0.0, -7200.0, 100_000.0])  # somebody set the wall clock
        self.world.troubles = Troubles()
        self.world.note(f"-- {name}")
        if not with_faults:
            return
        self.world.troubles = Troubles(
            dies=rng.choice([0.0, 0.1]),
            repeats=rng.choice([0.0, 0.2]),
            hangs=rng.choice([0.0, 0.0, 0.03]),
            slow=rng.choice([0.0, 0.3]),
            late=rng.choice([0.0, 1.0]),
            outlives=rng.choice([0.0, 0.5]),
            signal_after=rng.choice([None, None, rng.randint(1, 10)]),
            impatient=rng.choice([0.0, 0.1]),
        )
        faults = (self.only,) if self.only else (*FAULTS, *FURTHER_FAULTS.get(name, ()))
        fault, steps = rng.choice(faults), int(2 ** rng.uniform(0, 8.5))
        self.world.note(f"{fault} after {steps} operations")
        self.disk.arm(fault, steps)

    @contextmanager
    def _simulated(self) -> Iterator[None]:
        def steady() -> float:
            self.seconds += 0.01
            return self.seconds

        with (
            stand_ins(steady, self.temporary),
            simulated_training(),
            simulated_backend(self.world),
            self.disk.installed(),
        ):
            yield


@cache
def _undisturbed(number: int) -> list[Any]:
    """The study of the scenario of this number without any disaster."""
    history = _History(number, None)
    try:
        with history._simulated(), closing(history.world):
            history._new_process("undisturbed", with_faults=False)
            history._search()
            history._extend()
            return study_rows(reports.read(history.folder.path))
    finally:
        shutil.rmtree(history.root)


def _memory() -> str | None:
    """A file system in memory, if there is one: the simulation writes much and keeps nothing."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
