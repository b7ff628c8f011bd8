"""What a search loses to a fault: every fault is really provoked, and what was lost is counted. Ours beside stock Ray Tune.

    python -m benchmarks.reliability [--faults kill,ctrl_c] [--only ours] [--tries 3]

Each fault befalls a search of 8 trials of up to 9 epochs on the network of `benchmarks.faulty` (tiny, slowed by sleeps, so that faults
hit trainings); then the search is resumed until it ends. Counted for each: trials missing at the end, epochs that were on disk
before and are not now, epochs recorded twice, and epochs trained again (batches trained beyond those of recorded epochs).
Writes benchmarks/results/reliability.json, whose lines docs/reliability.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from benchmarks.faulty import TRIALS
from benchmarks.faulty_search import CONTENDERS, Epoch, Ours, Search
from benchmarks.processes import members, seconds_until_gone, workers

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "reliability.json"
NUM_KILLS = 20
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass
class Loss:
    """What one fault cost."""

    fault: str
    contender: str
    provoked: int
    """Times the damage was done, in this one search."""
    finished: bool
    trials_missing: int
    epochs_lost: int
    epochs_twice: int
    epochs_trained_again: float
    notes: dict[str, object]


def measure(fault: str, contender: str, folder: Path, seed: int) -> Loss:
    """Provoke a fault once in a new search, let it end, and count."""
    search = CONTENDERS[contender](folder)
    folder.mkdir(parents=True)
    before: list[Epoch] = []
    notes: dict[str, object] = {}
    try:
        provoked, finished = FAULTS[fault](search, before, notes, random.Random(seed))
    finally:
        if search.driver is not None and search.driver.poll() is None:
            search.driver.kill()
            search.driver.wait()
    after = search.epochs()
    counts = Counter(after)
    again = search.epochs_trained() - len(counts)
    if not finished:
        notes["log"] = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
    return Loss(
        fault,
        contender,
        provoked,
        finished,
        trials_missing=max(0, TRIALS - search.num_ended()),
        epochs_lost=len(set(before) - counts.keys()),
        epochs_twice=sum(counts.values()) - len(counts),
        epochs_trained_again=round(again, 1),
        notes=notes,
    )


# --- the faults: each does the damage, lets the search end, and returns (times provoked, whether it ended) ----------------


def kills(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """The driver is killed 20 times: at any moment of a start, or within seconds of its first epoch."""
    for kill in range(NUM_KILLS):
        driver = search.start()
        if kill % 2:
            search.wait_for_epochs(1)
            time.sleep(draw.uniform(0, 1.5))
        else:
            time.sleep(draw.uniform(0, 12))
        driver.kill()
        driver.wait()
        # What the last start wrote may not be rewritten by the next: all that was ever on disk is kept for comparison.
        before += search.epochs()
        if isinstance(search, Ours) and len(search.epochs()) and search.num_ended() == TRIALS:
            notes["ended_after_kills"] = kill + 1
            return kill + 1, search.finish()
    return NUM_KILLS, search.finish()


def kills_of_one_worker(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    """The same with one trial at a time; ours is then compared with an undisturbed search of the same seed."""
    search.concurrent = 1
    result = kills(search, before, notes, draw)
    if isinstance(search, Ours) and result[1]:
        undisturbed = Ours(search.folder / "undisturbed", concurrent=1)
        notes["equal_to_undisturbed"] = undisturbed.finish() and undisturbed.outcome() == search.outcome()
    return result


def kill_and_look(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    """The driver is killed once, and its processes are watched until the last has gone."""
    return _signalled(search, before, notes, draw, signal.SIGKILL)


def ctrl_c(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    return _signalled(search, before, notes, draw, signal.SIGINT)


def ctrl_c_twice(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    return _signalled(search, before, notes, draw, signal.SIGINT, signal.SIGINT)


def sigterm(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    return _signalled(search, before, notes, draw, signal.SIGTERM)


def sigterm_all(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """As Slurm signals a step: driver, Ray's servers and workers, all at once."""
    return _signalled(search, before, notes, draw, signal.SIGTERM, to_all=True)


def _signalled(
    search: Search,
    before: list[Epoch],
    notes: dict[str, object],
    draw: random.Random,
    *signals: signal.Signals,
    to_all: bool = False,
) -> tuple[int, bool]:
    driver = search.start()
    search.wait_for_epochs(4)
    search.wait_for_batches(draw.randint(1, 4))
    began = time.monotonic()
    for number in signals:
        if number == signal.SIGINT:
            os.killpg(driver.pid, number)  # as a terminal does
        else:
            subprocess.run(
                ["kill", f"-{int(number)}", *map(str, members(driver.pid) if to_all else [driver.pid])], check=False
            )
        time.sleep(0.3)
    notes["exit_code"] = search.exit_code(driver)
    notes["seconds_to_exit"] = round(time.monotonic() - began, 1)
    notes["seconds_until_no_process"] = seconds_until_gone(driver.pid)
    before += search.epochs()
    return 1, search.finish()


def worker_kill(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Three times a training worker is killed."""
    driver, killed = search.start(), 0
    for _ in range(3):
        if not search.wait_for_epochs(4):
            break
        search.wait_for_batches(draw.randint(1, 4))
        if found := workers(driver.pid):
            subprocess.run(["kill", "-9", str(draw.choice(found))], check=False)
            killed += 1
            before += search.epochs()
    finished = search.exit_code(driver) == 0
    return killed, finished


def node_removed(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    """Two nodes of one CPU; one is killed with all its processes, another is added, and then the other first one is killed."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        search.address = cluster.address
        driver, removed = search.start(), 0
        for node in nodes:
            if not search.wait_for_epochs(5):
                break
            search.wait_for_batches(draw.randint(1, 4))
            before += search.epochs()
            cluster.remove_node(node, allow_graceful=False)
            removed += 1
            cluster.add_node(num_cpus=1)
        return removed, search.exit_code(driver) == 0
    finally:
        cluster.shutdown()


def disk_full(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """The run lies in a small tmpfs that runs full (ENOSPC); then it is made larger."""
    disk = search.folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    search.name = "disk/r"
    try:
        driver = search.start()
        search.wait_for_epochs(3)
        with (disk / "other-people").open("wb") as file:  # somebody else fills it
            try:
                while True:
                    file.write(bytes(4096))
                    file.flush()
            except OSError:
                pass
        notes["exit_code"] = search.exit_code(driver)
        before += search.epochs()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        finished = search.finish()
        shutil.copytree(search.run, search.folder / "r", ignore_dangling_symlinks=True)
        search.name = "r"
        return 1, finished
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def moved(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Killed, moved to another folder, resumed there."""
    driver = search.start()
    search.wait_for_epochs(6)
    search.wait_for_batches(draw.randint(1, 4))
    driver.kill()
    driver.wait()
    seconds_until_gone(driver.pid)
    before += search.epochs()
    (search.folder / "elsewhere").mkdir()
    search.run.rename(search.folder / "elsewhere" / "moved")
    search.name = "elsewhere/moved"
    return 1, search.finish()


def clock_jumps(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """The wall clock of all processes of the search goes an hour back, then two days forward (libfaketime)."""
    clock = search.folder / "clock"
    clock.write_text("+0")
    search.environment = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    driver, jumps = search.start(), 0
    for shift in ("-3600", "+172800"):
        if search.wait_for_epochs(4):
            before += search.epochs()
            clock.write_text(shift)
            jumps += 1
    return jumps, search.exit_code(driver) == 0


def torn_lines(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Killed; then every file that grows by lines ends within a line, as after a power cut."""
    driver = search.start()
    search.wait_for_epochs(6)
    search.wait_for_batches(draw.randint(1, 4))
    driver.kill()
    driver.wait()
    seconds_until_gone(driver.pid)
    before += search.epochs()
    files = [search.run / "epochs.jsonl", search.run / "study.journal"] if isinstance(search, Ours) else []
    files = [file for file in files or [*search.run.glob("*/result.json"), *search.run.glob("*.json")] if file.exists()]
    for file in files:
        last = file.read_bytes().rstrip(b"\n").rpartition(b"\n")[2]
        with file.open("ab") as lines:
            lines.write(last[: len(last) // 2])
    notes["files"] = len(files)
    return 1, search.finish()


FAULTS: dict[str, Callable[[Search, list[Epoch], dict[str, object], random.Random], tuple[int, bool]]] = {
    "kill": kill_and_look,
    "worker_kill": worker_kill,
    "ctrl_c": ctrl_c,
    "ctrl_c_twice": ctrl_c_twice,
    "sigterm": sigterm,
    "sigterm_all": sigterm_all,
    "moved": moved,
    "torn_lines": torn_lines,
    "disk_full": disk_full,
    "node_removed": node_removed,
    "clock_jumps": clock_jumps,
    "kills_of_one_worker": kills_of_one_worker,
    "kills": kills,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--only", choices=list(CONTENDERS))
    parser.add_argument("--tries", type=int, default=1)
    asked = parser.parse_args()
    for fault in asked.faults.split(","):
        for contender in [asked.only] if asked.only else CONTENDERS:
            for attempt in range(asked.tries):
                folder = Path(tempfile.mkdtemp(prefix="winnow-reliability-"))
                loss = measure(fault, contender, folder / "search", seed=attempt)
                print(json.dumps(asdict(loss)), flush=True)
                _store(asdict(loss))
                shutil.rmtree(folder, ignore_errors=True)


def _store(loss: dict[str, object]) -> None:
    with FileLock(
        Path(tempfile.gettempdir(), "winnow-reliability.lock")
    ):  # ours and stock may be measured side by side
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
        RESULTS.write_text("[\n" + ",\n".join(json.dumps(each) for each in [*known, loss]) + "\n]\n")


if __name__ == "__main__":
    main()
