"""One training: our loop against the usual one, same network, images, batch size, optimizer, schedule, epochs and threads.

    python -m benchmarks.speed.throughput [--data ../shared/data/cifar10] [--train 2000] [--epochs 2] [--seeds 3] [--threads 1] [--device cpu]

The usual loop is `benchmarks.peers.common.train`: PIL images through torchvision's transforms in a DataLoader, `.item()` at every step,
validation after each epoch. Ours is what a worker does with a trial: evaluation, augmentation, metrics and a checkpoint every epoch. Both
are timed from the built data to the last epoch's figure, by turns. Prints training images per second, their ratio pair by pair, also by CPU
time (steadier on a busy machine), and the validation accuracy of both. Writes benchmarks/results/throughput-<device>.json. `--device cuda` is ready, not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import RESULTS
from benchmarks.peers import common
from winnow.search.data.image_data import ImageData, split
from winnow.search.data.source import Source, load_data
from winnow.search.storage.provenance import hardware, versions
from winnow.search.training.checkpoint import save
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces import catalog
from winnow.spaces.schema import Config
from winnow.spaces.space import Space

RESIDUAL = {
    "name": "residual",
    "stem": 16,
    "stages": [{"blocks": 1, "filters": 16}, {"blocks": 1, "filters": 32, "pool": "max"}],
}
CASES: dict[str, tuple[str | dict[str, Any], int]] = {  # recipe whose network it is, or a network; batch size
    "A1": ("recipes/cifar100-a1", 128),
    "E3a": ("recipes/cifar100-e3a", 256),
    "LeNet": ("recipes/cinic10-b1", 64),
    "residual": (RESIDUAL, 128),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument("--train", type=int, default=2000, help="training rows, validation included")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="*", default=list(CASES), choices=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs = []
    for case in options.cases:
        config, data = prepare(case, options)
        for seed in range(options.seeds):
            for name, trained in (("usual", usual), ("ours", ours)):
                load = os.getloadavg()[0]
                began = time.process_time()
                seconds, accuracy, num_images = trained(config, data, seed, torch.device(options.device))
                images = num_images * config.epochs
                figures = {
                    "images_per_second": images / seconds,
                    "images_per_cpu_second": images / (time.process_time() - began),
                }
                runs.append({"case": case, "loop": name, "seed": seed, **figures, "accuracy": accuracy, "load": load})
                print(json.dumps(runs[-1]), file=sys.stderr)
    print(f"{options.train} rows, {options.epochs} epochs, {options.threads} threads, {options.device}\n")
    print(
        "| | usual, images/s | ours, images/s | ratio | ratio by CPU time | accuracy usual | ours | n |\n|---|---|---|---|---|---|---|---|"
    )
    for case in options.cases:
        print(row(case, [run for run in runs if run["case"] == case]))
    raw = {"options": vars(options), "runs": runs, "hardware": hardware(), "versions": versions()}
    path = RESULTS / f"throughput-{options.device}.json"
    path.write_text(json.dumps(raw, indent=2) + "\n")


def prepare(case: str, options: argparse.Namespace) -> tuple[Config, ImageData]:
    """The network of a recipe, all else the same for all: CIFAR-10, flipped and cropped, Adam at 0.001."""
    network, batch_size = CASES[case]
    data = {"name": "parquet", "path": options.data, "limit": options.train, "validation": 0.2, "augment": "flip_crop"}
    tree = {
        "data": data,
        "epochs": options.epochs,
        "batch_size": batch_size,
        "model": network if isinstance(network, dict) else catalog.load(network).tree["model"],
        "optimizer": {"name": "adam", "lr": 0.001},
    }
    space = Space.from_tree(tree, source="benchmarks.speed.throughput")
    return space.example(), load_data(space, Source(Path("data")))


def usual(
    config: Config, data: ImageData, seed: int, device: torch.device, num_workers: int = 0
) -> tuple[float, float, int]:
    """(seconds, validation accuracy at the end, training images)"""
    parts = split(data, config.data.validation, config.data.stratified, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data.npz")
        np.savez(
            path,
            train_images=data.train_images[parts.train_index],
            train_labels=data.train_labels[parts.train_index],
            validation_images=data.train_images[parts.validation_index],
            validation_labels=data.train_labels[parts.validation_index],
        )
        torch.manual_seed(seed)
        accuracies: list[float] = []
        started = time.perf_counter()
        raw = config.model_dump(mode="json")
        common.train(raw, path, lambda epoch, accuracy: accuracies.append(accuracy), device, num_workers)
        return time.perf_counter() - started, accuracies[-1], len(parts.train_index)


def ours(config: Config, data: ImageData, seed: int, device: torch.device) -> tuple[float, float, int]:
    on_device = DeviceData.build(data, config.data, device, 0)
    result: Any = None
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for result in train(config, on_device, device, seed):
            save(Path(folder, "trial.pt"), result.state())
        seconds = time.perf_counter() - started
    return seconds, result.validation_accuracy or 0.0, on_device.num_train


def ours_with_graphs(config: Config, data: ImageData, seed: int, device: torch.device) -> tuple[float, float, int]:
    return ours(config.model_copy(update={"cuda_graphs": True}), data, seed, device)


def row(case: str, runs: list[dict[str, Any]]) -> str:
    def of(loop: str, key: str) -> list[float]:
        return [run[key] for run in runs if run["loop"] == loop]

    def ratios(key: str) -> list[float]:
        return [a / b for a, b in zip(of("ours", key), of("usual", key), strict=True)]

    cells: list[tuple[list[float], Callable[[float], str]]] = [
        (of("usual", "images_per_second"), "{:.0f}".format),
        (of("ours", "images_per_second"), "{:.0f}".format),
        (ratios("images_per_second"), "{:.2f}".format),
        (ratios("images_per_cpu_second"), "{:.2f}".format),
        (of("usual", "accuracy"), "{:.3f}".format),
        (of("ours", "accuracy"), "{:.3f}".format),
    ]
    texts = [f"{form(statistics.median(v))} ({form(min(v))} to {form(max(v))})" for v, form in cells]
    return f"| {case} | {' | '.join(texts)} | {len(runs) // 2} |"


if __name__ == "__main__":
    main()
