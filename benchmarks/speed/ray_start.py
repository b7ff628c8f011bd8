"""How long a local Ray takes to start, as Ray starts it and as Winnow does (without the processes of `lean_ray.UNUSED`).

    python -m benchmarks.speed.ray_start [--runs 4]

Each start is a process of its own, by turns: seconds of `ray.init`, CPU seconds of that process and of the servers that ended with it. Ray's
own processes in advance (`preload`) are left out. Prints a Markdown table and writes benchmarks/results/ray_start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks import RESULTS, spread
from winnow.search.storage.provenance import hardware, versions

START = """
import contextlib, json, logging, os, sys, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from winnow.search.ray_backend.lean_ray import lean_ray
started = time.perf_counter()
with lean_ray() if sys.argv[1] == "lean" else contextlib.nullcontext():
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL, num_cpus=2, num_gpus=0)
seconds = time.perf_counter() - started
ray.shutdown()
print(json.dumps({"init_seconds": seconds, "cpu_seconds": sum(os.times()[:4])}))
"""
WAYS = ("as Ray starts it", "lean")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    rows = [one_start(way) for _ in range(options.runs) for way in WAYS]
    print("| start | ray.init, s | CPU, s | n |\n|---|---|---|---|")
    for way in WAYS:
        of_way = [row for row in rows if row["way"] == way]
        cells = [spread([row[key] for row in of_way]) for key in ("init_seconds", "cpu_seconds")]
        print(f"| {way} | {' | '.join(cells)} | {len(of_way)} |")
    raw = {"rows": rows, "hardware": hardware(), "versions": versions()}
    (RESULTS / "ray_start.json").write_text(json.dumps(raw, indent=2) + "\n")


def one_start(way: str) -> dict[str, Any]:
    load = os.getloadavg()[0]
    done = subprocess.run([sys.executable, "-c", START, way], capture_output=True, text=True, check=True)
    return {"way": way, "load": load, **json.loads(done.stdout.splitlines()[-1])}


if __name__ == "__main__":
    main()
