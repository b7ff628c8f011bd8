"""The report of a very long search: 10,000 trials of 20 epochs each (200,000 epochs; no trial is stopped).

    python -m benchmarks.scale.report_scale [--trials 10000] [--runs 3]
    python -m benchmarks.scale.report_scale --trials 50000 --rungs        # as a search has it: most trials stop at a rung

The run is made up by `tests.helpers.make_run`. Each of `winnow report` and `winnow show` runs in a process of its own: wall and CPU seconds, peak
memory, size of what was written; and `winnow show` without a report, which replays the run. A first round, not counted, compiles the
modules, as any first use of an installation does. Goals: at 10,000 trials tables and HTML in 10 s and 1 GB, at 50,000 in 45 s; HTML under 8 MB,
`winnow show` in 1 s. Where Chromium is installed, the page is opened in it without a window: seconds until its thread is idle for the first
time after loading, when it answers clicks; goal 2 s. Prints a Markdown table and writes benchmarks/results/report_scale.json, with another
number of trials report_scale-TRIALS.json. `--keep FOLDER` keeps the run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import RESULTS, spread
from benchmarks.scale.opening import opening_seconds
from tests.helpers import make_run
from winnow.search.storage.provenance import hardware, versions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rungs", action="store_true", help="stop trials at the rungs of `make_run`")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if not options.rungs:
        make_run.RUNGS = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary, "long")
        # In a process of its own: a child starts with the peak memory of the one that starts it.
        making = multiprocessing.Process(target=make_run.make_run, args=(folder,), kwargs={"trials": options.trials})
        making.start()
        making.join()
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": f"{temporary}/compiled"}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        rounds = [one_round(folder, environment) for _ in range(options.runs + 1)]
        rows = [row for rows in rounds[1:] for row in rows]
        opened = [opening_seconds(folder / "report" / "report.html") for _ in range(options.runs + 1)][1:]
        sizes = {path.name: round(path.stat().st_size / 1e6, 2) for path in sorted((folder / "report").iterdir())}
    print(f"{options.trials} trials\n\n| | wall, s | CPU, s | peak memory, MB | n |\n|---|---|---|---|---|")
    for name in ("show, replayed", "report", "show"):
        of_name = [row for row in rows if row["command"] == name]
        cells = [spread([row[key] for row in of_name]) for key in ("wall_seconds", "cpu_seconds", "memory_mb")]
        print(f"| winnow {name} | {' | '.join(cells)} | {len(of_name)} |")
    if seconds := [each for each in opened if each is not None]:
        print(f"| opening the page | {spread(seconds)} | | | {len(seconds)} |")
    print("\nMB: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    raw = {
        "trials": options.trials,
        "rungs": options.rungs,
        "rows": rows,
        "opening_seconds": opened,
        "sizes_mb": sizes,
        "hardware": hardware(),
        "versions": versions(),
    }
    path = RESULTS / ("report_scale.json" if options.trials == 10_000 else f"report_scale-{options.trials}.json")
    path.write_text(json.dumps(raw, indent=2) + "\n")


def one_round(folder: Path, environment: dict[str, str]) -> list[dict[str, Any]]:
    shutil.rmtree(folder / "report", ignore_errors=True)
    replayed = {**measure("show", folder, environment), "command": "show, replayed"}
    return [replayed, *(measure(command, folder, environment) for command in ("report", "show"))]


def measure(command: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    load, started = os.getloadavg()[0], time.perf_counter()
    line = [sys.executable, "-m", "winnow", command, str(folder)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"winnow {command} ended with exit code {process.returncode}")
    return {
        "command": command,
        "wall_seconds": time.perf_counter() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss / 1024,
        "load": load,
    }


if __name__ == "__main__":
    main()
