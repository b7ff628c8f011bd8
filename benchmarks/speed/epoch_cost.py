"""Measures the cost of an epoch beyond the multiply-adds of its network: the constants of search/samplers/epoch_cost.py.

    python -m benchmarks.speed.epoch_cost [--device cpu] [--configs 36] [--data ../shared/data/cifar10]

Random configs of `digits` and of `cifar10-cnn` train for half a second each, one thread on a CPU. Their microseconds per image
are fitted, relative errors squared, as a + b / batch size + c * multiply-adds, none of them negative; a / c and b / c are the constants.
Raw figures go to benchmarks/results/epoch_cost-DEVICE.json.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks import RESULTS
from winnow.models import summarize
from winnow.search.data.source import Source, load_data
from winnow.search.resources.largest_config import sample_configs
from winnow.search.storage.provenance import hardware, versions
from winnow.search.training.speed_probe import measure
from winnow.spaces import catalog


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda", "mps"], default="cpu")
    parser.add_argument("--configs", type=int, default=36, help="of each space")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"), help="Parquet shards")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    load = os.getloadavg()[0]
    cifar = ("data.name=parquet", f"data.path={asked.data}", "data.limit=2000")
    rows = [
        row
        for name, overrides in (("digits", ()), ("cifar10-cnn", cifar))
        for row in measured(name, overrides, torch.device(asked.device), asked.configs)
    ]
    found = fit(rows)
    print(json.dumps(found, indent=2))
    raw = {"fit": found, "configs": rows, "load_before": load, "hardware": hardware(), "versions": versions()}
    (RESULTS / f"epoch_cost-{asked.device}.json").write_text(json.dumps(raw, indent=2) + "\n")


def measured(name: str, overrides: tuple[str, ...], device: torch.device, num_configs: int) -> list[dict[str, Any]]:
    space = catalog.load(name, overrides)
    data = load_data(space, Source(Path("data")))
    rows = []
    for config in sample_configs(space, data, num_configs, seed=1):
        epoch = measure(config, data, device, seconds=0.5)
        size = summarize(config.model, data.image_shape, data.num_classes)
        rows.append(
            {
                "space": name,
                "batch_size": config.batch_size,
                "multiply_adds": size.multiply_adds,
                "microseconds_per_image": 1e6 * epoch.epoch_seconds / len(data.train_labels),
            }
        )
    return rows


def fit(rows: list[dict[str, Any]]) -> dict[str, Any]:
    seconds = np.array([row["microseconds_per_image"] for row in rows])
    inputs = np.array([[1.0, 1 / row["batch_size"], row["multiply_adds"]] for row in rows])
    scale = inputs.max(axis=0)  # multiply-adds and their reciprocals are far apart
    weights, _ = nnls(inputs / scale / seconds[:, None], np.ones(len(rows)))
    per_image, per_step, per_multiply_add = (float(value) for value in weights / scale)
    errors = inputs @ (weights / scale) / seconds
    return {
        "microseconds_per_image": per_image,
        "microseconds_per_step": per_step,
        "microseconds_per_million_multiply_adds": 1e6 * per_multiply_add,
        "per_image": per_image / per_multiply_add,
        "per_step": per_step / per_multiply_add,
        "fitted_over_measured_quantiles_0_10_50_90_100": np.quantile(errors, [0, 0.1, 0.5, 0.9, 1]).tolist(),
    }


if __name__ == "__main__":
    main()
