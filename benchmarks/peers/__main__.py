"""The same search four times: Winnow with either sampler, the public Ray Tune + PyTorch and Optuna + PyTorch wirings; equal wall-clock.

    python -m benchmarks.peers [--seconds 300] [--runs 3] [--rows 8000] [--data ../shared/data/cifar10] [--only NAME ...]

Space: `cifar10-cnn`, 8 epochs at most; 8,000 training and 2,000 validation rows. Each contender is started as a command and ended after
`--seconds`, its start-up included; they take turns, each run in another order. Trial-epochs per minute and the best validation accuracy at
time marks, median and range over the runs; written to benchmarks/results/peers.json.
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
from typing import Any

import numpy as np

from benchmarks import RESULTS, spread
from benchmarks.peers.space import load_space
from winnow.search.data.source import Source, load_data
from winnow.search.storage.provenance import hardware, versions

MARKS = (0.25, 0.5, 0.75, 1.0)  # of the time
SAMPLERS = {"winnow": "forecast", "winnow_tpe": "tpe"}
NAMES = (*SAMPLERS, "ray_tune", "optuna_torch")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    options = parser.parse_args()
    names = tuple(options.only)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_npz(folder / "data.npz", options)
        for number in range(options.runs):
            for name in names[number % len(names) :] + names[: number % len(names)]:
                load = os.getloadavg()[0]
                results = run(name, number, folder / f"{name}-{number}", folder / "data.npz", options)
                runs.append({"contender": name, "run": number, "load": load, **figures(results, options.seconds)})
                print(json.dumps(runs[-1]), file=sys.stderr)
    print_table(runs, options.seconds)
    raw = {"options": {k: str(v) for k, v in vars(options).items()}, "runs": runs}
    text = json.dumps({**raw, "hardware": hardware(), "versions": versions()}, indent=2)
    (RESULTS / "peers.json").write_text(text + "\n")


def write_npz(path: Path, options: argparse.Namespace) -> None:
    """Write the data set as the peers read it: the first 80 % of the rows to train, the rest to validate."""
    space = load_space((f"data.path={options.data}", "data.name=parquet", f"data.limit={rows_read(options)}"))
    data = load_data(space, Source(Path("data")))
    names = ("train_images", "train_labels", "validation_images", "validation_labels")
    parts = (data.train_images, data.train_labels)
    arrays = [part[: options.rows] for part in parts] + [part[options.rows :] for part in parts]
    np.savez(path, **dict(zip(names, arrays, strict=True)))


def rows_read(options: argparse.Namespace) -> int:
    """A fifth of these is the validation split."""
    return int(options.rows * 5 // 4)


def run(name: str, seed: int, folder: Path, data: Path, options: argparse.Namespace) -> list[tuple[float, float]]:
    """(seconds since the command, validation accuracy) of every trial-epoch of a contender."""
    folder.mkdir()
    out = folder / "results.jsonl"
    if name in SAMPLERS:
        keys = {"data.name": "parquet", "data.path": options.data.resolve(), "data.limit": rows_read(options)}
        sets = [part for key, value in {**keys, "epochs": 8}.items() for part in ("--set", f"{key}={value}")]
        arguments = [
            "search",
            "search",
            "cifar10-cnn",
            "--runs-dir",
            str(folder),
            "--trials",
            "100000",
            "--time-budget",
            f"{options.seconds:g}s",
            "--sampler",
            SAMPLERS[name],
            "--seed",
            str(seed),
            "--quiet",
            *sets,
        ]
        out = folder / "cifar10-cnn" / "epochs.jsonl"
    else:
        arguments = [f"benchmarks.peers.{name}", str(data), str(options.seconds), str(out)]
    started = time.time()
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            process.wait(options.seconds)
        except subprocess.TimeoutExpired:
            end(process)
    if not out.exists():
        raise RuntimeError(f"{name} gave no result; its last words: {(folder / 'output.txt').read_text()[-2000:]}")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    accuracies = [line.get("accuracy", line.get("validation_accuracy")) or 0.0 for line in lines]
    return [(line["time"] - started, accuracy) for line, accuracy in zip(lines, accuracies, strict=True)]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a peer as a user would, with Ctrl-C, and kill its process group if that does not help."""
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(1)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def figures(results: list[tuple[float, float]], seconds: float) -> dict[str, Any]:
    within = [(when, accuracy) for when, accuracy in results if when <= seconds]
    return {
        "epochs_per_minute": 60 * len(within) / seconds,
        "best_at": {
            str(mark): max((accuracy for when, accuracy in within if when <= mark * seconds), default=0.0)
            for mark in MARKS
        },
    }


def print_table(runs: list[dict[str, Any]], seconds: float) -> None:
    heads = " | ".join(f"best at {mark * seconds:.0f} s" for mark in MARKS)
    print(f"| | trial-epochs per minute | {heads} | n |\n|---|---|{'---|' * len(MARKS)}---|")
    for name in dict.fromkeys(run["contender"] for run in runs):
        of_name = [run for run in runs if run["contender"] == name]
        cells = [spread([run["epochs_per_minute"] for run in of_name], ".1f")]
        cells += [spread([run["best_at"][str(mark)] for run in of_name], ".3f") for mark in MARKS]
        print(f"| {name} | {' | '.join(cells)} | {len(of_name)} |")


if __name__ == "__main__":
    main()
