"""Measures the time from the command to the first result: seconds, and CPU seconds of all processes until then.

    python -m benchmarks.speed.startup [--runs 5] [--against CHECKOUT]

Starts the real `winnow run digits` in a temporary folder and ends it after its first result (two Ctrl-C). CHECKOUT is a folder with
another version of the code and its own `.venv` (`make setup`); both then take turns. On a busy machine the CPU seconds are the steadier figure: with two quiet cores the wall
time cannot be below half of them. Prints a Markdown table and writes benchmarks/results/startup.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import REPOSITORY, RESULTS, spread
from winnow.search.storage.provenance import hardware, versions

TIMEOUT_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    trees = {"this": REPOSITORY} | ({"other": options.against.resolve()} if options.against else {})
    runs: list[dict[str, object]] = []
    for seed in range(options.runs):
        for name, tree in trees.items():
            runs.append({"tree": name, **first_result(tree, seed)})
            print(json.dumps(runs[-1]), file=sys.stderr)
    print("| | first result, s | CPU seconds until then | load | n |\n|---|---|---|---|---|")
    for name in trees:
        of_tree = [run for run in runs if run["tree"] == name]
        print(
            f"| {name} | {' | '.join(spread([float(str(r[key])) for r in of_tree]) for key in ('seconds', 'cpu_seconds', 'load'))} | {len(of_tree)} |"
        )
    raw = {"command": "winnow run digits", "runs": runs, "hardware": hardware(), "versions": versions()}
    (RESULTS / "startup.json").write_text(json.dumps(raw, indent=2) + "\n")


def first_result(tree: Path, seed: int) -> dict[str, float]:
    """Seconds and CPU seconds until the first result of one `winnow run digits` with the code in `tree`."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--runs-dir", folder, "--seed", str(seed), "--quiet"]
        command = [str(tree / ".venv" / "bin" / "python"), "-m", "winnow", "run", "digits", *options]
        started = time.time()
        process = subprocess.Popen(
            command,
            cwd=tree,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            seconds = wait_for_line(Path(folder, "digits", "epochs.jsonl"), process, started)
            cpu_seconds = cpu_of_all(process.pid)
        finally:
            for _ in range(2):
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            process.wait(TIMEOUT_SECONDS)
    return {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2), "load": load}


def wait_for_line(path: Path, process: subprocess.Popen[bytes], started: float) -> float:
    """Seconds from `started` to the time in the first line of `path`."""
    while time.time() < started + TIMEOUT_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the command ended with exit code {process.returncode} before its first result")
        if path.exists() and (line := path.read_text().partition("\n")[0]):
            return float(json.loads(line)["time"]) - started
        time.sleep(0.02)
    raise TimeoutError(f"no result in {TIMEOUT_SECONDS} s")


def cpu_of_all(pid: int) -> float:
    """CPU seconds of a process and everything it started that still runs: Ray's processes and the workers (Linux)."""
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        number = int(stat.parent.name)
        parents[number], ticks[number] = int(fields[1]), int(fields[11]) + int(fields[12])
    family = {pid}
    while grown := {child for child, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(ticks[number] for number in family if number in ticks) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
