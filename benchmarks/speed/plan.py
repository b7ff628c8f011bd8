"""Compares the forecast of `winnow plan` with the search that follows: wall time and epochs.

    python -m benchmarks.speed.plan [--searches 3] [--space digits] [--trials 8] [--epochs 6]

Plans and runs the same search, one after the other, with seeds 0, 1, ... A search's wall time is that of the whole command, report
included. Ratios are forecast over measurement. Writes benchmarks/results/plan.json and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import RESULTS
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.provenance import hardware, versions

RESULT = RESULTS / "plan.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=3)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    what = [asked.space, "--trials", str(asked.trials), "--set", f"epochs={asked.epochs}"]
    found = []
    for seed in range(asked.searches):
        found.append(plan_and_search([*what, "--seed", str(seed)]))
        print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    raw = {"command": what, "searches": found, "hardware": hardware(), "versions": versions()}
    RESULT.write_text(json.dumps(raw, indent=2) + "\n")
    print("| search | forecast, s (range) | took, s | ratio | forecast of epochs (range) | epochs | ratio |")
    print("|---|---|---|---|---|---|---|")
    for seed, one in enumerate(found):
        seconds, epochs = one["forecast"]["seconds"], one["forecast"]["epochs"]
        print(
            f"| seed {seed} | {_range(seconds)} | {one['seconds']:.0f} | {seconds[1] / one['seconds']:.2f} "
            f"| {_range(epochs)} | {one['epochs']} | {epochs[1] / one['epochs']:.2f} |"
        )
    ratios = [one["forecast"]["seconds"][1] / one["seconds"] for one in found]
    print(f"\nratio of the times: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


def plan_and_search(what: list[str]) -> dict[str, Any]:
    """`forecast`: (low, middle, high) of seconds and epochs; then what the search took."""
    load = os.getloadavg()[0]
    plan = json.loads(winnow("plan", *what, "--json"))
    estimate = plan["estimate"]
    forecast = {
        "seconds": [estimate["seconds_low"], estimate["seconds"], estimate["seconds_high"]],
        "epochs": [plan["epochs_low"], plan["epochs"], plan["epochs_high"]],
        "epoch_seconds": estimate["epoch_seconds"],
        "start_seconds": estimate["start_seconds"],
    }
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        winnow("search", *what, "--runs-dir", folder, "--name", "r", "--quiet")
        seconds = time.monotonic() - began
        epochs = list(read_json_lines(Path(folder, "r", "epochs.jsonl")))
    return {
        "forecast": forecast,
        "seconds": round(seconds, 1),
        "epochs": len(epochs),
        "epoch_seconds": statistics.mean(epoch["wall_seconds"] for epoch in epochs),
        "seconds_of_epochs": round(epochs[-1]["time"] - epochs[0]["time"], 1),
        "load_before_and_after": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def winnow(*arguments: str) -> str:
    command = [sys.executable, "-m", "winnow", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def _range(low_middle_high: list[float]) -> str:
    low, middle, high = low_middle_high
    return f"{middle:.0f} ({low:.0f} to {high:.0f})"


if __name__ == "__main__":
    main()
