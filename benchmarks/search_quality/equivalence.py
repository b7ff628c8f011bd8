"""Does `winnow train` give the accuracy that the same training gives in 40 lines of plain PyTorch?

    python -m benchmarks.search_quality.equivalence DATA [--seeds 20]

DATA is a folder of CIFAR-10 in Parquet. A small network is trained on 5,000 of its images and tested on all 10,000 test
images, with every seed in each way: in plain PyTorch and torchvision, by Winnow in float32, and by Winnow in its default
precision. Both draw their own weights, order and augmentation. Prints the differences with 95 % intervals (Welch) and writes
benchmarks/results/equivalence.json after each seed. About ten minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import ttest_ind
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms

from benchmarks import RESULTS
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import load
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces.schema import Config

EPOCHS, BATCH, LR, MOMENTUM, DECAY, SMOOTHING = 4, 64, 0.01, 0.9, 5e-4, 0.1
FILTERS = (8, 16, 32)


def plain(data: ImageData, seed: int) -> float:
    """Test accuracy of the training as one writes it without Winnow."""
    torch.manual_seed(seed)
    pixels = torch.from_numpy(data.train_images).double() / 255
    normalize = [transforms.ToTensor(), transforms.Normalize(pixels.mean((0, 1, 2)), pixels.std((0, 1, 2)))]
    augment = transforms.Compose([transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, 4), *normalize])
    keep = transforms.Compose(normalize)
    train = DataLoader(_pairs(data.train_images, data.train_labels, augment), BATCH, shuffle=True)
    test = DataLoader(_pairs(data.test_images, data.test_labels, keep), 500)
    layers: list[nn.Module] = []
    for before, after in zip((3, *FILTERS), FILTERS, strict=False):
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(FILTERS[-1] * 16, 10))
    optimizer = torch.optim.SGD(model.parameters(), LR, MOMENTUM, weight_decay=DECAY, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * len(train))
    loss_function = nn.CrossEntropyLoss(label_smoothing=SMOOTHING)
    for _ in range(EPOCHS):
        for images, labels in train:
            loss = loss_function(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in test)
    return right / len(data.test_labels)


class _pairs(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: Callable[[Any], torch.Tensor]) -> None:
        self.images, self.labels, self.transform = images, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[i])), int(self.labels[i])


def by_winnow(data: ImageData, config: Config, seed: int) -> float:
    """Test accuracy of the same training by `winnow train --fit-validation`."""
    final = fit_and_test(TrainingJob("equivalence", config, seed, "retrain"), data, torch.device("cpu"), None)
    assert final is not None
    return float(final["test_accuracy"])


def config_of(path: Path, precision: str) -> Config:
    """The training of `plain` as a config."""
    stages = [{"filters": filters, "kernel": 3, "pool": "max"} for filters in FILTERS]
    tree = {
        "data": {"name": "parquet", "path": str(path), "limit": 5_000, "augment": "flip_crop"},
        "epochs": EPOCHS,
        "batch_size": BATCH,
        "model": {"name": "cnn", "stages": stages, "norm": "batch"},
        "optimizer": {"name": "sgd", "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY, "nesterov": True},
        "schedule": "cosine",
        "loss": {"name": "cross_entropy", "label_smoothing": SMOOTHING},
        "precision": precision,
    }
    return Config.model_validate(tree)


def difference(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """Mean difference in points, and the ends of its 95 % interval."""
    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return 100 * (float(np.mean(ours)) - float(np.mean(theirs))), 100 * interval.low, 100 * interval.high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    configs = {precision: config_of(options.data, precision) for precision in ("float32", "auto")}
    data = load(configs["auto"].data, Path("data"))
    accuracies: dict[str, list[float]] = {"plain": [], **{name: [] for name in configs}}
    for seed in range(options.seeds):
        accuracies["plain"].append(plain(data, seed))
        for name, config in configs.items():
            accuracies[name].append(by_winnow(data, config, seed))
        print(seed, {name: round(values[-1], 4) for name, values in accuracies.items()}, flush=True)
        if seed:
            differences = {name: difference(accuracies[name], accuracies["plain"]) for name in configs}
            result = {"accuracies": accuracies, "difference_low_high": differences}
            result |= {"hardware": hardware(), "versions": versions()}
            (RESULTS / "equivalence.json").write_text(json.dumps(result, indent=1) + "\n")
    for name in configs:
        mean, low, high = differences[name]
        print(f"winnow ({name}) minus plain: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}")


if __name__ == "__main__":
    main()
