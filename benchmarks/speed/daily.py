"""Measures what a user waits for: the help text, the first result, trials per minute, and the share of the time that is training.

    python -m benchmarks.speed.daily [--runs 3]

Runs the real command on `digits` in a temporary folder, seeds 0, 1, ..., and prints one Markdown table: median, minimum, maximum.
Writes the raw figures to benchmarks/results/daily.json. A run's wall time is that of the whole command, Ray's start included.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.provenance import hardware, versions
from winnow.search.storage.run_folder import RunFolder

NUM_HELP = 7


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=3)
    num_runs = parser.parse_args().runs
    figures: dict[str, list[float]] = {
        "`winnow --help`, s": [timed(lambda: winnow("--help")) for _ in range(NUM_HELP)],
        "`winnow spaces`, s": [timed(lambda: winnow("spaces")) for _ in range(NUM_HELP)],
    }
    for seed in range(num_runs):
        for name, value in search_figures(seed).items():
            figures.setdefault(name, []).append(value)
    print("| | median | min | max | n |\n|---|---|---|---|---|")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):.3g} | {min(values):.3g} | {max(values):.3g} | {len(values)} |")
    raw = {"figures": figures, "hardware": hardware(), "versions": versions()}
    Path("benchmarks/results/daily.json").write_text(json.dumps(raw, indent=2) + "\n")


def search_figures(seed: int) -> dict[str, float]:
    """The figures of one `winnow search digits`."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        seconds = timed(lambda: winnow("search", "digits", "--runs-dir", folder, "--seed", str(seed), "--quiet"))
        run = Path(folder, "digits")
        epochs = list(read_json_lines(run / "epochs.jsonl"))
        concurrent = RunFolder(run).read_study()["devices"]["concurrent"]
    first, last = epochs[0]["time"], epochs[-1]["time"]
    training = sum(epoch["wall_seconds"] for epoch in epochs)
    num_trials = len({epoch["trial"] for epoch in epochs})
    return {
        "first result after the command, s": first - began,
        "the whole `winnow search digits`, report included, s": seconds,
        "trials per minute, first to last result": 60 * num_trials / (last - first),
        "share of the workers' time spent training, first to last result": training / (concurrent * (last - first)),
        "share of the workers' time spent training, whole command": training / (concurrent * seconds),
    }


def winnow(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "winnow", *arguments], check=True, capture_output=True)


def timed(action: Callable[[], None]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
