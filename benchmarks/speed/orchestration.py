"""Measures the cost of a real search beyond its trainings: the share of the workers' time, and the pause from a trial's end to the next trial's start.

    python -m benchmarks.speed.orchestration [--seconds 0.1 1 10] [--workers 2] [--against CHECKOUT]

`winnow search` with real Ray workers on the network of `benchmarks.reliability.faulty`, whose batches sleep: an epoch takes as long as it is told to, and
hardly any CPU, so two cores serve two workers and their driver. No trial is stopped early. Everything is read off the run's own `epochs.jsonl`: a training's
time is its epochs' (batches and validation); what lies between the first epoch's start and the last one's end and is no epoch
(checkpoints, reports, suggestions, set-up of a trial) is the rest. Goals: under 3 % with epochs of 1 s, under 50 ms between trials.
CHECKOUT is a folder with another version of the code; both then take turns. Prints a Markdown table and writes benchmarks/results/orchestration.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY, RESULTS
from benchmarks.peers.stock_search import NUM_TRAIN
from benchmarks.reliability.faulty import BATCH_SIZE, SPACE
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.provenance import hardware, versions

BATCHES_PER_EPOCH = math.ceil(NUM_TRAIN / BATCH_SIZE)
EPOCHS = 5
TRIALS = {0.1: 60, 1.0: 16, 10.0: 4}
"""By seconds of an epoch: about a minute and a half at most with two workers."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, nargs="+", default=list(TRIALS), choices=list(TRIALS))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    trees = {"this": REPOSITORY} | ({"other": options.against.resolve()} if options.against else {})
    rows: list[dict[str, Any]] = []
    print(
        "| code | epoch, s | trials | workers | not training | between trials, ms | load |\n|---|---|---|---|---|---|---|"
    )
    for seed in range(options.repeats):
        for seconds in options.seconds:
            for name, tree in trees.items():
                row = {"tree": name, **measure(tree, seconds, options.workers, seed)}
                rows.append(row)
                print(
                    f"| {name} | {seconds:g} | {row['trials']} | {row['workers']} | {row['not_training']:.1%} "
                    f"| {row['median_pause_ms']:.0f} ({row['min_pause_ms']:.0f} to {row['max_pause_ms']:.0f}) | {row['load']:.1f} |",
                    flush=True,
                )
    raw = {"epochs": EPOCHS, "rows": rows, "hardware": hardware(), "versions": versions()}
    (RESULTS / "orchestration.json").write_text(json.dumps(raw, indent=2) + "\n")


def measure(tree: Path, seconds: float, workers: int, seed: int) -> dict[str, Any]:
    """One search. The pauses leave out each worker's first trial, before which it is started."""
    with tempfile.TemporaryDirectory() as temporary:
        space = Path(temporary, "space.yaml")
        space.write_text(SPACE)
        command = [sys.executable, "-m", "winnow", "search", str(space), "--name", "r", "--runs-dir", temporary]
        command += [
            "--num-cpus",
            str(workers),
            "--concurrent",
            str(workers),
            "--cpus-per-trial",
            "1",
            "--device",
            "cpu",
        ]
        command += ["--trials", str(TRIALS[seconds]), "--set", f"epochs={EPOCHS}", "--grace-epochs", str(EPOCHS)]
        command += ["--seed", str(seed), "--quiet"]
        pace = {"BATCH_SECONDS": str(seconds / BATCHES_PER_EPOCH), "PYTHONPATH": str(tree)}
        subprocess.run(command, env={**os.environ, **pace}, check=True, stdout=subprocess.DEVNULL)
        trials = _trials(read_json_lines(Path(temporary, "r", "epochs.jsonl")))
    span = max(end for _, end, _ in trials) - min(start for start, _, _ in trials)
    pauses = _pauses(trials, workers)
    return {
        "epoch_seconds": seconds,
        "trials": len(trials),
        "workers": workers,
        "not_training": 1 - sum(trained for _, _, trained in trials) / (span * workers),
        "median_pause_ms": 1000 * statistics.median(pauses),
        "min_pause_ms": 1000 * min(pauses),
        "max_pause_ms": 1000 * max(pauses),
        "load": os.getloadavg()[0],
    }


def _trials(lines: Iterable[dict[str, Any]]) -> list[tuple[float, float, float]]:
    """(start, end, seconds of its epochs) of each, by their starts."""
    epochs: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        epochs[line["trial"]].append(line)
    return sorted(
        (
            of_trial[0]["time"] - of_trial[0]["wall_seconds"],
            of_trial[-1]["time"],
            sum(line["wall_seconds"] for line in of_trial),
        )
        for of_trial in epochs.values()
    )


def _pauses(trials: list[tuple[float, float, float]], workers: int) -> list[float]:
    """Seconds from an end to the next start on the same worker: the one that has waited longest takes the next trial."""
    free = sorted(end for _, end, _ in trials[:workers])
    pauses = []
    for start, end, _ in trials[workers:]:
        pauses.append(start - free[0])
        free = sorted([*free[1:], end])
    return pauses


if __name__ == "__main__":
    main()
