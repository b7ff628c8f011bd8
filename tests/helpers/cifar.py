"""Small pieces of the real CIFAR for tests: a few images of each class as an .npz file or as a tree of image files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.conftest import cifar_dir

LABELS = {"cifar10": "label", "cifar100": "label"}
NUM_CLASSES = {"cifar10": 10, "cifar100": 100}
NUM_LOOKED_AT = 6000


def some_images(name: str, per_class: int, num_classes: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first `per_class` training images of each class, uint8 [N, 32, 32, 3], class by class, and their labels.

    `num_classes`: of the first so many classes alone.
    """
    file = sorted(cifar_dir(name).glob("train-*.parquet"))[0]
    with pq.ParquetFile(file) as parquet:
        batch = next(parquet.iter_batches(batch_size=NUM_LOOKED_AT))
    column = next(batch.column(i) for i in range(batch.num_columns) if pa.types.is_struct(batch.schema.types[i]))
    labels = batch.column(LABELS[name]).to_numpy()
    chosen = np.concatenate([np.flatnonzero(labels == k)[:per_class] for k in range(num_classes or NUM_CLASSES[name])])
    images = [np.asarray(Image.open(io.BytesIO(column[int(i)].as_py()["bytes"])).convert("RGB")) for i in chosen]
    return np.stack(images), labels[chosen].astype(np.int64)


def write_some(path: Path, name: str, per_class: int, per_class_test: int = 1, num_classes: int | None = None) -> Path:
    """An .npz data set: of each class `per_class` images to train on and `per_class_test` others to test on."""
    images, labels = some_images(name, per_class + per_class_test, num_classes)
    place = np.arange(len(labels)) % (per_class + per_class_test)
    train = np.random.default_rng(0).permutation(np.flatnonzero(place < per_class))
    test = np.flatnonzero(place >= per_class)
    np.savez(
        path,
        train_images=images[train],
        train_labels=labels[train],
        test_images=images[test],
        test_labels=labels[test],
    )
    return path


def write_tree(folder: Path, train: int = 20, valid: int = 5, test: int = 5) -> Path:
    """CIFAR-10 images as CINIC-10 lays its own out: train, valid and test folders, one folder of PNG files per class."""
    images, labels = some_images("cifar10", train + valid + test)
    splits = ["train"] * train + ["valid"] * valid + ["test"] * test
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        split = splits[number % len(splits)]
        place = folder / split / f"class{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"cifar10-{split}-{number}.png")
    return folder
