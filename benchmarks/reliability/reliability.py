"""Counts what a search loses to a fault, for Winnow and for stock Ray Tune: every fault is really provoked.

    python -m benchmarks.reliability.reliability [--faults kill,ctrl_c] [--only ours] [--tries 3] [--minutes 10 --folder kept]

Each fault befalls a search of 8 trials of up to 9 epochs on the network of `benchmarks.reliability.faulty` (tiny, slowed by sleeps, so that faults
hit trainings); then the search is resumed until it ends. Counted for each: trials missing at the end, epochs that had
been written down and are not in the final record, epochs recorded twice, and epochs trained again. Writes benchmarks/results/reliability.json, whose lines docs/reliability.md shows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks import REPOSITORY, RESULTS
from benchmarks.reliability.faulty import TRIALS
from benchmarks.reliability.faulty_search import BATCHES_PER_EPOCH, CONTENDERS, NUM_STARTS, Epoch, Ours, Search
from benchmarks.reliability.processes import members, seconds_until_gone, workers

RESULT = RESULTS / "reliability.json"
NUM_KILLS = 20
SLOW_BATCH = 0.5  # seconds
CLOCK_SHIFT = REPOSITORY / "benchmarks" / "reliability" / "clock_shift.c"


@dataclass
class Loss:
    """The cost of one fault."""

    fault: str
    contender: str
    provoked: int
    """Times the damage was done, in this one search."""
    finished: bool
    trials_missing: int
    """Of those asked for, did not end well; below zero: more than asked for."""
    epochs_lost: int
    """Written down before the damage, and no longer in the record of a trial of the search when it has ended."""
    epochs_twice: int
    epochs_trained_again: float
    """Batches trained beyond those of the epochs in the final record, in epochs."""
    notes: dict[str, object]


def measure(fault: str, contender: str, folder: Path, seed: int) -> Loss:
    """Provoke a fault once in a new search, let it end, and count."""
    search = CONTENDERS[contender](folder)
    folder.mkdir(parents=True, exist_ok=True)
    before: list[Epoch] = []
    notes: dict[str, object] = {}
    try:
        provoked, finished = FAULTS[fault](search, before, notes, random.Random(seed))
    finally:
        if search.driver is not None and search.driver.poll() is None:
            search.driver.kill()
            search.driver.wait()
    kept = search.kept()
    counts = Counter(search.epochs())
    if not finished:
        notes["log"] = (folder / "log.txt").read_text(errors="replace").strip().splitlines()[-1:]
    return Loss(
        fault,
        contender,
        provoked,
        finished,
        trials_missing=TRIALS - search.num_ended(),
        epochs_lost=len(set(before) - kept),
        epochs_twice=counts.total() - len(counts),
        epochs_trained_again=round(search.epochs_trained() - len(kept), 1),
        notes=notes,
    )


# --- the faults: each does the damage, lets the search end, and returns (times provoked, whether it ended) ----------------


def kills(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """The driver is killed 20 times (`--kills`), by turns at any moment of a start, and within an epoch's time of its first epoch.

    Epochs of 2.5 s, so that 20 kills fit into one search. What was done is kept in the search's folder: with too little time left it
    is gone on with where `Unfinished` left it.
    """
    search.environment = {"BATCH_SECONDS": str(SLOW_BATCH)}
    progress = search.folder / "kills.json"
    done: dict[str, Any] = json.loads(progress.read_text()) if progress.exists() else {"kills": 0, "epochs": []}
    moments = [draw.random() for _ in range(NUM_KILLS)]
    while done["kills"] < _num_kills:
        _check_time()
        driver = search.start()
        if done["kills"] % 2:
            search.wait_for_epochs(1)
            time.sleep(moments[done["kills"]] * SLOW_BATCH * BATCHES_PER_EPOCH)
        else:
            time.sleep(moments[done["kills"]] * 15)
        if driver.poll() == 0:
            notes["ended_after_kills"] = done["kills"]  # the others would hit a search that is over
            break
        if driver.poll() is not None:
            continue  # Ray did not start, as it happens on a busy machine
        driver.kill()
        driver.wait()
        # What the last start wrote may not be rewritten by the next: all that was ever on disk is kept for comparison.
        found = {*map(tuple, done["epochs"]), *search.seen()}
        done = {"kills": done["kills"] + 1, "epochs": sorted(found)}
        progress.write_text(json.dumps(done))
    _check_time()
    before += [(trial, epoch) for trial, epoch in done["epochs"]]
    return done["kills"], search.finish()


def kills_of_one_worker(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    """The same with one trial at a time; ours is then compared with an undisturbed search of the same seed."""
    search.concurrent = 1
    result = kills(search, before, notes, draw)
    if isinstance(search, Ours) and result[1]:
        undisturbed = Ours(search.folder / "undisturbed", concurrent=1)
        shutil.rmtree(undisturbed.folder, ignore_errors=True)
        notes["equal_to_undisturbed"] = undisturbed.finish() and undisturbed.outcome() == search.outcome()
    return result


class Unfinished(Exception):
    """The time given is over; to be gone on with."""


def _check_time() -> None:
    if time.monotonic() > _deadline:
        raise Unfinished


_deadline = math.inf
_num_kills = NUM_KILLS


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
    """Send SIGTERM to driver, Ray's servers and workers at once, as Slurm signals a step."""
    return _signalled(search, before, notes, draw, signal.SIGTERM, to_all=True)


def _signalled(
    search: Search,
    before: list[Epoch],
    notes: dict[str, object],
    draw: random.Random,
    *signals: signal.Signals,
    to_all: bool = False,
) -> tuple[int, bool]:
    driver = _within_an_epoch(search, draw, 4)
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
    before += search.seen()
    return 1, search.finish()


def _within_an_epoch(search: Search, draw: random.Random, epochs: int) -> subprocess.Popen[bytes]:
    """Start the search; returns when so many epochs have been written, within one that runs."""
    for _ in range(NUM_STARTS):
        driver = search.start()
        if search.wait_for_epochs(epochs):
            search.wait_for_batches(draw.randint(1, 4))
            return driver
    raise RuntimeError("the search does not start, so this fault would hit nothing")


def worker_kill(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Three times a training worker is killed."""
    driver, killed = _within_an_epoch(search, draw, 2), 0
    for _ in range(3):
        if killed and not search.wait_for_epochs(4):
            break
        search.wait_for_batches(draw.randint(1, 4))
        if found := workers(driver.pid):
            subprocess.run(["kill", "-9", str(draw.choice(found))], check=False)
            killed += 1
            before += search.seen()
    finished = search.exit_code(driver) == 0
    return killed, finished


def node_removed(
    search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random
) -> tuple[int, bool]:
    """Two nodes of one CPU; one is killed with all its processes, another is added, and then the other first one is killed."""
    from ray.cluster_utils import Cluster

    # The workers of a cluster have the environment of its nodes, which are processes of ours.
    search.batches.mkdir()
    os.environ |= {"BATCH_LOG": str(search.batches), "OMP_NUM_THREADS": "1"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        search.address = cluster.address
        driver, removed = _within_an_epoch(search, draw, 4), 0
        for node in nodes:
            if removed and not search.wait_for_epochs(5):
                break
            search.wait_for_batches(draw.randint(1, 4))
            before += search.seen()
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
        driver = _within_an_epoch(search, draw, 3)
        with (disk / "other-people").open("wb", buffering=0) as file, suppress(OSError):  # somebody else fills it
            while True:
                file.write(bytes(4096))
        notes["exit_code"] = search.exit_code(driver)
        before += search.seen()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        finished = search.finish()
        shutil.copytree(search.run, search.folder / "r", ignore_dangling_symlinks=True)
        search.name = "r"
        return 1, finished
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def moved(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Killed, moved to another folder, resumed there."""
    driver = _within_an_epoch(search, draw, 6)
    driver.kill()
    driver.wait()
    seconds_until_gone(driver.pid)
    before += search.seen()
    (search.folder / "elsewhere").mkdir()
    search.run.rename(search.folder / "elsewhere" / "moved")
    search.name = "elsewhere/moved"
    return 1, search.finish()


def clock_jumps(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """The wall clock that the search's Python processes read goes an hour back, then two days forward."""
    shim, shift = search.folder / "clock_shift.so", search.folder / "shift"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", shim, CLOCK_SHIFT, "-ldl"], check=True)
    shift.write_text("0")
    search.environment = {"LD_PRELOAD": str(shim), "CLOCK_SHIFT_FILE": str(shift)}
    driver, jumps = _within_an_epoch(search, draw, 4), 0
    for seconds in ("-3600", "172800"):
        if not jumps or search.wait_for_epochs(4):
            before += search.seen()
            shift.write_text(seconds)
            jumps += 1
    return jumps, search.exit_code(driver) == 0


def torn_lines(search: Search, before: list[Epoch], notes: dict[str, object], draw: random.Random) -> tuple[int, bool]:
    """Killed; then every file that grows by lines ends within a line, as after a power cut."""
    driver = _within_an_epoch(search, draw, 6)
    driver.kill()
    driver.wait()
    seconds_until_gone(driver.pid)
    before += search.seen()
    if isinstance(search, Ours):
        files = [search.run / "epochs.jsonl", search.run / "study.journal"]
    else:  # Tune writes its snapshots whole; these two grow
        files = [*search.run.glob("*/result.json"), *search.run.glob("*/progress.csv")]
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
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin nothing after them")
    parser.add_argument("--folder", type=Path, help="kept, so that the same command continues after an interruption")
    parser.add_argument("--kills", type=int, default=NUM_KILLS, help="of the loops, at most")
    asked = parser.parse_args()
    global _deadline, _num_kills
    _num_kills = asked.kills
    _deadline = time.monotonic() + 60 * asked.minutes
    for fault in asked.faults.split(","):
        for contender in [asked.only] if asked.only else CONTENDERS:
            for attempt in range(asked.tries):
                name = f"{fault}-{contender}-{attempt}"
                if asked.folder and (asked.folder / name / "measured").exists():
                    continue
                folder = (asked.folder or Path(tempfile.mkdtemp(prefix="winnow-reliability-"))) / name
                if not fault.startswith("kills"):  # the others start over
                    shutil.rmtree(folder, ignore_errors=True)
                try:
                    _check_time()
                    loss = measure(fault, contender, folder.resolve(), seed=attempt)
                except Unfinished:
                    print(f"{name}: to be gone on with", flush=True)
                    return
                print(json.dumps(asdict(loss)), flush=True)
                _store(asdict(loss))
                (folder / "measured").touch()
                if not asked.folder:
                    shutil.rmtree(folder.parent, ignore_errors=True)


def _store(loss: dict[str, object]) -> None:
    with FileLock(
        Path(tempfile.gettempdir(), "winnow-reliability.lock")
    ):  # ours and stock may be measured side by side
        known = json.loads(RESULT.read_text()) if RESULT.exists() else []
        RESULT.write_text("[\n" + ",\n".join(json.dumps(each) for each in [*known, loss]) + "\n]\n")


if __name__ == "__main__":
    main()
