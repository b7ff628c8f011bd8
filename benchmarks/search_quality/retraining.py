"""Is the winner that is retrained the training that won, where the validation images chose its epoch?

    python -m benchmarks.search_quality.retraining [--seeds 5]

A small network overfits 300 images of digits; early stopping ends its training, and `weights: lowest_validation_loss` keeps an early
epoch. How much that matters depends on the data: the labels are as they are, or 30 % of those of the training images are replaced at
random, which a network learns by heart in its later epochs. For each seed it is trained as in a search. Its config is then retrained with another seed in three ways: as up to version 0.1,
all epochs on training and validation images, with the last weights; as now, for the epochs that the search chose; and as now with
`keep_validation`, where the validation images choose again. Prints median and range of the figures on the test images and writes
benchmarks/results/retraining.json. Half a minute on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks import RESULTS, spread
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.storage.provenance import hardware, versions
from winnow.search.winners.as_searched import as_searched
from winnow.spaces.schema import Config

EPOCHS = 40
REPLACED = (0.0, 0.3)
"""Shares of the training labels that are replaced at random."""
FIGURES = ("test_loss", "test_accuracy", "epochs", "weights_epoch")
WAYS = ("as searched", "all epochs, last weights", "epochs of the search", "validation kept")


CONFIG = Config.model_validate(
    {
        "data": {"name": "digits", "limit": 300},
        "epochs": EPOCHS,
        "batch_size": 32,
        "model": {"name": "mlp", "hidden": [128, 128], "dropout": 0.0},
        "optimizer": {"name": "adam", "lr": 0.003},
        "schedule": "constant",
        "precision": "float32",
        "weights": "lowest_validation_loss",
        "early_stopping": {"patience": 5},
    }
)


def with_replaced(data: ImageData, share: float) -> ImageData:
    """The data with a share of its training labels drawn at random from all classes."""
    random = np.random.default_rng(0)
    labels = data.train_labels.copy()
    places = random.random(len(labels)) < share
    labels[places] = random.integers(0, data.num_classes, places.sum())
    return replace(data, train_labels=labels)


def trained(
    config: Config, data: ImageData, seed: int, use: Literal["search", "retrain"]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The figures of a training on the test images, and of its epochs."""
    epochs: list[dict[str, Any]] = []
    final = fit_and_test(
        TrainingJob("retraining", config, seed, use), data, torch.device("cpu"), None, None, epochs.append
    )
    assert final is not None
    return {name: final[name] for name in FIGURES}, epochs


def compare(data: ImageData, seed: int) -> dict[str, dict[str, Any]]:
    """Train once as in a search, and then again in each way."""
    searched, epochs = trained(CONFIG, data, seed, "search")
    chosen = Config.model_validate(as_searched(CONFIG.model_dump(mode="json"), epochs))
    again = 1000 + seed
    all_epochs, _ = trained(CONFIG, data, again, "retrain")
    of_search, _ = trained(chosen, data, again, "retrain")
    kept, _ = trained(CONFIG, data, again, "search")
    return dict(zip(WAYS, (searched, all_epochs, of_search, kept), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    data = load(CONFIG.data, Path("data"))
    rows = []
    print(
        "| labels replaced | training | test loss | test accuracy | epochs | weights of epoch |\n|---|---|---|---|---|---|"
    )
    for share in REPLACED:
        found = [compare(with_replaced(data, share), seed) for seed in range(seeds)]
        for way in WAYS:
            of_way = [each[way] for each in found]
            rows += [
                {"replaced": share, "training": way, "seed": seed, **figures} for seed, figures in enumerate(of_way)
            ]
            forms = dict(zip(FIGURES, (".3f", ".3f", ".0f", ".0f"), strict=True))
            cells = [spread([figures[name] for figures in of_way], form) for name, form in forms.items()]
            print(f"| {share:.0%} | {way} | " + " | ".join(cells) + " |", flush=True)
    result = {"rows": rows, "hardware": hardware(), "versions": versions()}
    (RESULTS / "retraining.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
