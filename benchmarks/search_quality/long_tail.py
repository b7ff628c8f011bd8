"""Measures the gain of a search by balanced accuracy on classes of unequal size.

    python -m benchmarks.search_quality.long_tail DATA [--seeds 3] [--trials 24]

DATA is a folder of CIFAR-10 in Parquet. Its training images are thinned to a long tail of 100 to 1 (1,000 images of the
first class, 10 of the last, as in Cui et al., 2019); all 10,000 test images stay. One space, in which class weights, focal
loss and balanced sampling are open, is searched by accuracy and by balanced accuracy with equal budgets, and the winner of
each search is retrained with one fresh seed. Prints a Markdown table and writes benchmarks/results/long_tail.json after
each pair of searches. Half an hour beside other work.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import RESULTS
from winnow import search as winnow
from winnow.search.data.source import load
from winnow.search.resources.plan import DeviceOptions
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces.schema import Data
from winnow.spaces.space import Space

LARGEST, RATIO = 1000, 100
DATA_FILE = "long-tail.npz"
FIGURES = ("test_balanced_accuracy", "test_accuracy", "test_macro_f1")
OBJECTIVES = ("validation_accuracy", "validation_balanced_accuracy")


def write_long_tail(cifar: Path, to: Path) -> list[int]:
    """Write the thinned data set as an .npz file; return the number of training images of each class."""
    data = load(Data(name="parquet", path=str(cifar)), Path("data"))
    num_classes = data.num_classes
    counts = [round(LARGEST * RATIO ** (-k / (num_classes - 1))) for k in range(num_classes)]
    chosen = np.concatenate([np.flatnonzero(data.train_labels == k)[:num] for k, num in enumerate(counts)])
    np.savez(
        to,
        train_images=data.train_images[chosen],
        train_labels=data.train_labels[chosen],
        test_images=data.test_images,
        test_labels=data.test_labels,
    )
    return counts


def space_on(data: Path) -> Space:
    """The space of both searches."""
    weights = {"choice": ["none", "balanced"]}
    stages = [{"filters": filters, "kernel": 3, "pool": "max"} for filters in (8, 16, 32)]
    tree = {
        "data": {
            "name": "npz",
            "path": str(data),
            "augment": "flip_crop",
            "sampling": {"choice": ["uniform", "balanced"]},
        },
        "epochs": 10,
        "batch_size": 64,
        "model": {"name": "cnn", "stages": stages, "norm": "batch", "dropout": {"float": [0.0, 0.5]}},
        "optimizer": {"name": "adam", "lr": {"log": [0.0005, 0.02]}},
        "schedule": "cosine",
        "loss": {
            "choice": {
                "cross_entropy": {"class_weights": weights, "label_smoothing": {"float": [0.0, 0.2]}},
                "focal": {"gamma": {"float": [0.5, 3.0]}, "class_weights": weights},
            }
        },
    }
    return Space.from_tree(tree, "long-tail.yaml")


def tested(space: Space, objective: str, seed: int, trials: int, folder: Path) -> dict[str, Any]:
    """Search, retrain the winner, and return its test figures."""
    run = winnow.run(
        space,
        name=f"{objective}-{seed}",
        runs_dir=folder,
        devices=DeviceOptions(num_cpus=1),
        quiet=True,
        objective=objective,
        trials=trials,
        seed=seed,
        top=1,
        seeds=1,
    )
    winner = run.winners.iloc[0]
    figures = {key: float(winner[key]) for key in FIGURES}
    config = json.loads(winner["config"])
    config["data"]["path"] = DATA_FILE  # not the temporary folder of this machine
    return {"objective": objective, "seed": seed, **figures, "config": config}


def table(rows: list[dict[str, Any]]) -> str:
    """Mean figures by objective, and the difference of each seed."""
    lines = ["| objective | balanced accuracy | accuracy | macro F1 |", "|---|---|---|---|"]
    for objective in OBJECTIVES:
        means = (np.mean([row[key] for row in rows if row["objective"] == objective]) for key in FIGURES)
        lines.append(f"| {objective} | " + " | ".join(f"{mean:.1%}" for mean in means) + " |")
    pairs = zip(rows[::2], rows[1::2], strict=True)
    gains = [100 * (by_balanced[FIGURES[0]] - by_accuracy[FIGURES[0]]) for by_accuracy, by_balanced in pairs]
    lines.append(f"\nbalanced accuracy, gain of each seed in points: {', '.join(f'{gain:+.1f}' for gain in gains)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=24)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        counts = write_long_tail(options.data, Path(folder) / DATA_FILE)
        space = space_on(Path(folder) / DATA_FILE)
        for seed in range(options.seeds):
            for objective in OBJECTIVES:
                rows.append(tested(space, objective, seed, options.trials, Path(folder)))
                print({key: value for key, value in rows[-1].items() if key != "config"}, flush=True)
            result = {"images_per_class": counts, "trials": options.trials, "rows": rows}
            result |= {"hardware": hardware(), "versions": versions()}
            (RESULTS / "long_tail.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
