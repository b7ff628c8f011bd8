"""One training with mixup, CutMix, TrivialAugment or an average of the weights: our loop against the usual one.

    python -m benchmarks.speed.modern_parts [--data ../shared/data/cifar10] [--train 5000] [--epochs 2] [--seeds 3] [--threads 2] [--workers 2]

The usual loop is plain PyTorch as torchvision's documentation writes it: transforms v2 of each PIL image in a DataLoader with 2 worker
processes, `v2.MixUp` and `v2.CutMix` on the batch, `AveragedModel` after every step, `.item()` at every step, validation after each epoch.
Ours is what a worker does with a trial: evaluation, metrics and a checkpoint every epoch; in float32, as the usual loop computes, and in the
precision that `auto` chooses. Same network (that of `recipes/cifar10-baseline`), batch size 128, AdamW and images; flips and crops in all.
All by turns, timed from the built data to the last epoch's figure. Prints training images per second and the ratio pair by pair, by
wall-clock and by the CPU time of all processes. Writes benchmarks/results/modern_parts-cpu.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from benchmarks import RESULTS, spread
from benchmarks.peers.common import MEAN, STD, Images
from benchmarks.speed.throughput import ours
from winnow.models import build
from winnow.search.data.image_data import ImageData, split
from winnow.search.data.source import Source, load_data
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces import catalog
from winnow.spaces.schema import Config, Ema, TrivialAugment
from winnow.spaces.space import Space

PARTS: dict[str, dict[str, Any]] = {
    "flip and crop": {},
    "mixup": {"mix": {"name": "mixup", "alpha": 0.2}},
    "CutMix": {"mix": {"name": "cutmix", "alpha": 1.0}},
    "TrivialAugment": {"augment": ["flip", "crop", "trivial_augment"]},
    "EMA": {"averaging": {"name": "ema", "decay": 0.99, "every": 1}},
}
LOOPS = ("usual", "ours, float32", "ours, auto")
CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="../shared/data/cifar10")
    parser.add_argument("--train", type=int, default=5000, help="training rows, validation included")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="threads of the training process")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of the usual loop's DataLoader")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs: list[dict[str, Any]] = []
    for part in options.parts:
        for seed in range(options.seeds):
            for loop in LOOPS:
                runs.append({"part": part, "loop": loop, "seed": seed, **measure(part, loop, seed, options)})
                print(json.dumps(runs[-1]), file=sys.stderr)
    print(f"{options.train} rows, {options.epochs} epochs, {options.threads} threads, {options.workers} workers\n")
    print(table(options.parts, runs))
    raw = {"options": vars(options), "runs": runs, "hardware": hardware(), "versions": versions()}
    (RESULTS / "modern_parts-cpu.json").write_text(json.dumps(raw, indent=2) + "\n")


def measure(part: str, loop: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Train once; returns images per second, images per second of CPU time, validation accuracy, and the load before."""
    config, data = prepare(part, "auto" if loop == "ours, auto" else "float32", options)
    load, began = os.getloadavg()[0], cpu_seconds()
    if loop == "usual":
        seconds, accuracy, num_images = usual(config, data, seed, options.workers)
    else:
        seconds, accuracy, num_images = ours(config, data, seed, CPU)
    images = num_images * config.epochs
    return {
        "images_per_second": images / seconds,
        "images_per_cpu_second": images / (cpu_seconds() - began),
        "accuracy": accuracy,
        "load": load,
    }


def cpu_seconds() -> float:
    """CPU time of this process and of the worker processes that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def prepare(part: str, precision: str, options: argparse.Namespace) -> tuple[Config, ImageData]:
    changes = dict(PARTS[part])
    augment = changes.pop("augment", "flip_crop")
    tree = {
        "data": {
            "name": "parquet",
            "path": options.data,
            "limit": options.train,
            "validation": 0.2,
            "augment": augment,
        },
        "epochs": options.epochs,
        "batch_size": 128,
        "model": catalog.load("recipes/cifar10-baseline").tree["model"],
        "optimizer": {"name": "adamw", "lr": 0.001},
        "precision": precision,
        **changes,
    }
    space = Space.from_tree(tree, source="benchmarks.speed.modern_parts")
    return space.example(), load_data(space, Source(Path("data")))


def usual(config: Config, data: ImageData, seed: int, num_workers: int) -> tuple[float, float, int]:
    """(seconds, validation accuracy at the end, training images)"""
    parts = split(data, config.data.validation, config.data.stratified, 0)
    torch.manual_seed(seed)
    started = time.perf_counter()
    trivial = [v2.TrivialAugmentWide()] if any(isinstance(s, TrivialAugment) for s in config.data.augment) else []
    plain = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    augmented = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop(32, padding=4), *trivial, *plain])

    def loader(index: Any, transform: Callable[..., torch.Tensor], shuffle: bool) -> DataLoader:
        images = Images(data.train_images[index], data.train_labels[index], transform)
        workers: dict[str, Any] = {"num_workers": num_workers, "persistent_workers": num_workers > 0}
        return DataLoader(images, batch_size=config.batch_size, shuffle=shuffle, **workers)

    train_loader = loader(parts.train_index, augmented, shuffle=True)
    validation_loader = loader(parts.validation_index, v2.Compose(plain), shuffle=False)
    accuracy = train_plainly(config, train_loader, validation_loader)
    seconds = time.perf_counter() - started
    del train_loader, validation_loader  # ends the workers, whose CPU time counts
    return seconds, accuracy, len(parts.train_index)


def train_plainly(config: Config, train_loader: DataLoader, validation_loader: DataLoader) -> float:
    """Train in plain PyTorch; returns the validation accuracy after the last epoch."""
    net = build(config.model, (3, 32, 32), 10)
    optimizer = torch.optim.AdamW(net.parameters(), lr=config.optimizer.lr, weight_decay=config.optimizer.weight_decay)
    criterion = nn.CrossEntropyLoss()
    mixings = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
    mix = mixings[config.mix.name](alpha=config.mix.alpha, num_classes=10) if config.mix else None
    decay = config.averaging.decay if isinstance(config.averaging, Ema) else None
    average = None if decay is None else AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    for _ in range(config.epochs):
        net.train()
        running_loss = 0.0
        for inputs, labels in train_loader:
            if mix is not None:
                inputs, labels = mix(inputs, labels)
            optimizer.zero_grad()
            loss = criterion(net(inputs), labels)
            loss.backward()
            optimizer.step()
            if average is not None:
                average.update_parameters(net)
            running_loss += loss.item()
        evaluated = net if average is None else average
        evaluated.eval()
        correct = total = 0
        with torch.no_grad():
            for inputs, labels in validation_loader:
                correct += (evaluated(inputs).argmax(dim=1) == labels).sum().item()
                total += labels.size(0)
    return correct / total


def table(parts: list[str], runs: list[dict[str, Any]]) -> str:
    """Medians and, in parentheses, the extremes over the seeds."""
    lines = [
        "| | usual, images/s | ours, float32 | ratio | by CPU time | ours, auto | ratio | by CPU time | n |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for part in parts:

        def figures(loop: str, key: str, part: str = part) -> list[float]:
            return [run[key] for run in runs if run["part"] == part and run["loop"] == loop]

        cells = [spread(figures("usual", "images_per_second"), ".0f")]
        for loop in LOOPS[1:]:
            cells.append(spread(figures(loop, "images_per_second"), ".0f"))
            for key in ("images_per_second", "images_per_cpu_second"):
                pairs = zip(figures(loop, key), figures("usual", key), strict=True)
                cells.append(spread([a / b for a, b in pairs], ".2f"))
        lines.append(f"| {part} | {' | '.join(cells)} | {len(figures('usual', 'accuracy'))} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
