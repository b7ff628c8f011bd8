"""A data set as plain arrays, and its split into what is fitted and what selects. Read once, shared by all workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from winnow.search.data.arrays import Arrays
from winnow.search.data.datasets import DATASETS
from winnow.spaces import schema
from winnow.spaces.errors import InputError

HELD_OUT_TEST = 0.2
HELD_OUT_SEED = 0


@dataclass(frozen=True)
class ImageData:
    """Images are uint8 [N, H, W, C], labels int64 [N]; arrays may be read-only (shared between processes)."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray | None
    """Only of a data set that brings a validation split."""
    validation_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    """The first 16 hex digits of the SHA-256 of all shapes and bytes."""
    notes: tuple[str, ...] = ()
    """What a reader of the results must know, such as a test set that Winnow itself held out."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)"""
        height, width, channels = self.train_images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class Split:
    """Ascending int64 indices into the training images; of a given split, into the validation images."""

    train_index: np.ndarray
    validation_index: np.ndarray


def load(data: schema.Data, data_dir: Path, download: bool = False) -> ImageData:
    """Read a data set. Nothing is downloaded unless asked. InputError says what was looked for and where."""
    arrays = DATASETS[data.name](data, data_dir, download)
    if data.validation == "given" and arrays.validation_images is None:
        raise InputError(f"data.validation: `given`, but {data.path} brings no validation split; give a fraction")
    _check_classes(arrays, data)
    _check_shapes(arrays, data)
    arrays, test_images, test_labels, notes = _with_test(arrays, data)
    if data.limit is not None:
        arrays = replace(
            arrays, train_images=arrays.train_images[: data.limit], train_labels=arrays.train_labels[: data.limit]
        )
    return ImageData(
        name=data.name,
        train_images=arrays.train_images,
        train_labels=arrays.train_labels,
        validation_images=arrays.validation_images,
        validation_labels=arrays.validation_labels,
        test_images=test_images,
        test_labels=test_labels,
        class_names=arrays.class_names,
        fingerprint=fingerprint(arrays),
        notes=notes,
    )


def fingerprint(arrays: Arrays | ImageData) -> str:
    """The first 16 hex digits of the SHA-256 of all shapes, bytes and class names."""
    digest = hashlib.sha256()
    for part in ("train", "validation", "test"):
        for kind in ("images", "labels"):
            array = getattr(arrays, f"{part}_{kind}")
            if array is not None:
                digest.update(f"{part} {kind} {array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
    digest.update("\n".join(arrays.class_names).encode())
    return digest.hexdigest()[:16]


def split(data: ImageData, validation: float | Literal["given"], stratified: bool, seed: int) -> Split:
    """What is fitted and what selects. InputError if either would be empty."""
    num = len(data.train_labels)
    if validation == "given":
        if data.validation_labels is None:
            raise InputError(f"data.validation: `given`, but {data.name} brings no validation split; give a fraction")
        return Split(np.arange(num), np.arange(len(data.validation_labels)))
    train, held_out = hold_out(data.train_labels, validation, stratified, seed)
    if not len(train) or not len(held_out):
        raise InputError(
            f"data.validation: {validation} of {num} training images leaves {len(train)} to fit and {len(held_out)} "
            "to validate; both need one image at least"
        )
    return Split(train, held_out)


def hold_out(labels: np.ndarray, share: float, stratified: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held out): ascending indices, round(share * N) held out; stratified: of each class its share, within one."""
    random = np.random.default_rng(seed)
    num_held_out = round(share * len(labels))
    shuffled = random.permutation(len(labels))
    if stratified:
        held_out = _first_of_each_class(shuffled, labels, num_held_out)
    else:
        held_out = shuffled[:num_held_out]
    mask = np.zeros(len(labels), dtype=bool)
    mask[held_out] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)


def _first_of_each_class(shuffled: np.ndarray, labels: np.ndarray, num: int) -> np.ndarray:
    """The first of each class in the shuffled order, `num` in all, shared out by largest remainder."""
    classes, sizes = np.unique(labels, return_counts=True)
    exact = sizes * (num / len(labels))
    quota = np.floor(exact).astype(np.int64)
    for k in np.argsort(quota - exact, kind="stable")[: num - int(quota.sum())]:
        quota[k] += 1
    in_class = [shuffled[labels[shuffled] == k] for k in classes]
    return np.concatenate([members[:n] for members, n in zip(in_class, quota, strict=True)] or [shuffled[:0]])


def _check_classes(arrays: Arrays, data: schema.Data) -> None:
    """Every class needs a training image, every label a class."""
    where, num_classes = data.path or data.name, len(arrays.class_names)
    for part in ("train", "validation", "test"):
        labels = getattr(arrays, f"{part}_labels")
        if labels is None:
            continue
        if not len(labels):
            raise InputError(f"{where}: the {part} split holds no image")
        if labels.min() < 0 or labels.max() >= num_classes:
            raise InputError(
                f"{where}: {part} labels lie in [{labels.min()}, {labels.max()}], but must lie in [0, {num_classes - 1}] "
                f"for {num_classes} classes"
            )
    empty = np.flatnonzero(np.bincount(arrays.train_labels, minlength=num_classes) == 0)
    if len(empty):
        names = ", ".join(arrays.class_names[k] for k in empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise InputError(f"{where}: no training image of {len(empty)} of {num_classes} classes: {names}")
    if num_classes < 2:
        raise InputError(f"{where}: at least 2 classes are needed, but there is {num_classes}: {arrays.class_names[0]}")


def _check_shapes(arrays: Arrays, data: schema.Data) -> None:
    shapes = {
        part: images.shape[1:]
        for part in ("train", "validation", "test")
        if (images := getattr(arrays, f"{part}_images")) is not None
    }
    if len(set(shapes.values())) > 1:
        given = ", ".join(f"{part} {height}x{width}x{channels}" for part, (height, width, channels) in shapes.items())
        raise InputError(
            f"{data.path or data.name}: image shapes differ between splits ({given}); set `data.image_size`"
        )


def _with_test(arrays: Arrays, data: schema.Data) -> tuple[Arrays, np.ndarray, np.ndarray, tuple[str, ...]]:
    """A data set without test images gives up a fixed share: the same for every seed, so that tests stay comparable."""
    if arrays.test_images is not None and arrays.test_labels is not None:
        return arrays, arrays.test_images, arrays.test_labels, ()
    images, labels = arrays.train_images, arrays.train_labels
    kept, test = hold_out(labels, HELD_OUT_TEST, stratified=True, seed=HELD_OUT_SEED)
    note = (
        f"{data.name} brings no test images: a fixed stratified {HELD_OUT_TEST:.0%} ({len(test)} images, the same for "
        "every seed) is held out as the test set"
    )
    arrays = replace(arrays, train_images=images[kept], train_labels=labels[kept])
    return replace(arrays, test_images=images[test], test_labels=labels[test]), images[test], labels[test], (note,)
