"""A small search that faults can be done to, ours or stock Ray Tune's: how it is started and resumed, and what its files say of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY
from benchmarks.peers.stock_search import NUM_TRAIN
from benchmarks.reliability.faulty import BATCH_SIZE, SPACE
from benchmarks.reliability.processes import start
from winnow.search.storage.json_lines import read_json_lines

PATIENCE = 300.0  # seconds, for anything awaited: on a loaded machine a start takes a minute
NUM_STARTS = 6
BAD_INPUT = 2  # an exit code: a driver that cannot even start would look like one that a fault has hurt
BATCHES_PER_EPOCH = math.ceil(NUM_TRAIN / BATCH_SIZE)

Epoch = tuple[str, int]


@dataclass
class Search(ABC):
    """A search in a folder of its own that is started, hurt, and started again. The two below know whose it is."""

    folder: Path
    concurrent: int = 2
    address: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    driver: subprocess.Popen[bytes] | None = None
    name: str = "r"
    """Path of the run below `folder`."""

    @property
    def run(self) -> Path:
        return self.folder / self.name

    @property
    def batches(self) -> Path:
        """A file for each width, a byte for each batch that was trained."""
        return self.folder / "batches"

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, or resume it where there is something to resume."""
        self.batches.mkdir(parents=True, exist_ok=True)
        environment = {"PYTHONPATH": str(REPOSITORY), "BATCH_LOG": str(self.batches), **self.environment}
        self.driver = start(self.command(), self.folder, self.folder / "log.txt", **environment)
        return self.driver

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def epochs(self) -> list[Epoch]:
        """(trial, epoch) on disk, in the order in which they were written."""

    def seen(self) -> set[Epoch]:
        """The epochs that the driver has written down anywhere so far, whether the final records hold them or not."""
        return set(self.epochs())

    def kept(self) -> set[Epoch]:
        """Keep the epochs of those trials that the search, now that it has ended, still counts as its own."""
        return set(self.epochs())

    @abstractmethod
    def num_ended(self) -> int:
        """Trials that ended well: completed or stopped early."""

    def epochs_trained(self) -> float:
        return sum(log.stat().st_size for log in self.batches.iterdir()) / BATCHES_PER_EPOCH

    def wait_for_epochs(self, more: int) -> bool:
        """Wait until `more` epochs have been written; False if the driver ends before."""
        assert self.driver is not None
        goal, deadline = len(self.seen()) + more, time.monotonic() + PATIENCE
        while len(self.seen()) < goal:
            if self.driver.poll() == BAD_INPUT and not self.run.exists():
                said = (self.folder / "log.txt").read_text()
                if "Ray did not start" not in said:
                    raise RuntimeError(said)
            if self.driver.poll() is not None or time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def wait_for_batches(self, more: int = 2) -> None:
        """Wait until so many more batches were trained, so that the damage hits a running epoch. RuntimeError if none is trained."""
        goal, deadline = self.epochs_trained() + more / BATCHES_PER_EPOCH, time.monotonic() + PATIENCE
        while self.epochs_trained() < goal - 1e-9:
            if time.monotonic() > deadline:
                raise RuntimeError("no batch is being trained, so this fault would hit nothing")
            assert self.driver is not None
            if self.driver.poll() is not None:
                return  # it has ended meanwhile
            time.sleep(0.01)

    def finish(self) -> bool:
        """Resume until it ends by itself; False if it does not in so many starts, of which some fail on a busy machine."""
        return any(self.exit_code(self.start()) == 0 for _ in range(NUM_STARTS))

    def exit_code(self, driver: subprocess.Popen[bytes]) -> int | None:
        """Wait for the driver to end and return its exit code; None if it hangs and had to be killed."""
        try:
            return driver.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.wait()
            return None


class Ours(Search):
    def command(self) -> list[str]:
        winnow = [sys.executable, "-m", "winnow"]
        where = ["--address", self.address] if self.address else ["--num-cpus", str(self.concurrent)]
        where += ["--concurrent", str(self.concurrent), "--cpus-per-trial", "1", "--device", "cpu", "--quiet"]
        if (self.run / "study.yaml").exists():
            return [*winnow, "resume", str(self.run), *where]
        (self.folder / "space.yaml").write_text(SPACE)
        named = ["--name", self.run.name, "--runs-dir", str(self.run.parent), "--seed", "0"]
        return [*winnow, "search", "space.yaml", *named, *where]

    def epochs(self) -> list[Epoch]:
        lines = read_json_lines(self.run / "epochs.jsonl")
        return [(str(line["trial"]), line["epoch"]) for line in lines if "epoch" in line]

    def num_ended(self) -> int:
        return sum(trial[-1] in ("completed", "stopped") for trial in self.outcome())

    def outcome(self) -> list[tuple[object, ...]]:
        """The facts that the study records about its trials, without times."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        storage = JournalStorage(JournalFileBackend(str(self.run / "study.journal")))
        trials = optuna.load_study(study_name="winnow", storage=storage).get_trials(deepcopy=False)
        return [
            (t.number, t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs.get("status"))
            for t in trials
        ]


class Stock(Search):
    def command(self) -> list[str]:
        (self.run / "ended.json").unlink(missing_ok=True)
        where = [self.address] if self.address else []
        return [sys.executable, "-m", "benchmarks.peers.stock_search", str(self.run), str(self.concurrent), *where]

    def epochs(self) -> list[Epoch]:
        return _epochs_in(self.run.glob("*/result.json"))

    def seen(self) -> set[Epoch]:
        """Tune writes results into the folder of Ray's session, and copies them into the run from time to time."""
        assert self.driver is not None
        found = set(self.epochs())
        for process in (self.driver.pid, os.getpid()):  # the session is the driver's, or that of a cluster of ours
            session = f"session_*_{process}/artifacts/*/{self.run.name}/driver_artifacts/*/result.json"
            found |= set(_epochs_in(Path(os.environ.get("RAY_TMPDIR") or "/tmp", "ray").glob(session)))
        return found

    def kept(self) -> set[Epoch]:
        """Keep the epochs that the trial's own results hold; its folder may also hold some that Tune has forgotten."""
        last = {trial["trial_id"]: trial["epochs"] for trial in self._ended()}
        return {(trial, epoch) for trial, epoch in self.epochs() if epoch <= last.get(trial, 0)}

    def num_ended(self) -> int:
        return sum(trial["error"] is None for trial in self._ended())

    def _ended(self) -> list[dict[str, Any]]:
        file = self.run / "ended.json"
        return json.loads(file.read_text()) if file.exists() else []


def _epochs_in(files: Iterable[Path]) -> list[Epoch]:
    """The epochs of each trial in Tune's result.json files."""
    lines = [line for file in sorted(files) for line in read_json_lines(file)]
    return [(line["trial_id"], line["epoch"]) for line in lines if "epoch" in line]


CONTENDERS: dict[str, type[Search]] = {"ours": Ours, "stock": Stock}
