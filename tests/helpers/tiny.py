"""A small learnable data set and quick configs, for the tests of training."""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow.search.data.image_data import ImageData
from winnow.search.training.epoch_result import EpochResult
from winnow.spaces.schema import Config

torch.set_num_threads(1)
CPU = torch.device("cpu")


def tiny_data(num_train: int = 50, num_test: int = 12, channels: int = 3, size: int = 8, seed: int = 0) -> ImageData:
    """Three classes of noisy images: each has its own bright row."""
    random = np.random.default_rng(seed)

    def draw(num: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(num, dtype=np.int64) % 3
        images = random.integers(0, 120, (num, size, size, channels), dtype=np.uint8)
        images[np.arange(num), labels * 2 + 1] += 100
        return images, labels

    train_images, train_labels = draw(num_train)
    test_images, test_labels = draw(num_test)
    return ImageData(
        name="npz",
        train_images=train_images,
        train_labels=train_labels,
        validation_images=None,
        validation_labels=None,
        test_images=test_images,
        test_labels=test_labels,
        class_names=("a", "b", "c"),
        fingerprint=f"tiny-{num_train}-{num_test}-{channels}-{size}-{seed}",
    )


def tiny_config(**changes: Any) -> Config:
    """A convolutional network with batch norm and dropout, Adam, 4 epochs; `changes` are top-level keys."""
    tree = {
        "data": {"name": "npz", "path": "unused.npz"},
        "epochs": 4,
        "batch_size": 16,
        "model": {"name": "cnn", "stages": [{"filters": 4}], "head": [8], "norm": "batch", "dropout": 0.3},
        "optimizer": {"name": "adam", "lr": 0.01},
        **changes,
    }
    return Config.model_validate(tree)


def figures(result: EpochResult) -> dict[str, Any]:
    """What must not depend on the clock."""
    names = (
        "epoch",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
        "lr",
        "diverged",
        "last",
    )
    values = {name: getattr(result, name) for name in (*names, "weights_epoch")}
    return {**values, "batch_losses": result.batch_losses.tolist()}


def schema_names(union: Any) -> set[str]:
    """The `name` of every member of a union of Winnow's own parts in the schema, such as `BuiltInLoss`."""
    assert isinstance(union, types.UnionType)
    members = typing.get_args(union)
    return {typing.get_args(member.model_fields["name"].annotation)[0] for member in members}


def same_tensors(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def write_npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path
