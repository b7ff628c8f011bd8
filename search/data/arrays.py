"""A data set whose images are decoded: arrays by split, with a record of every image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

RECORD = np.dtype(
    [("file_key", "u8"), ("pixel_key", "u8"), ("height", "i4"), ("width", "i4"), ("traits", "u2"), ("row", "i8")]
)
"""The record of one image: keys that are equal for equal bytes and equal pixels, its size before resizing, its `decode.Trait`s,
and its row in the listing of the split to which the data set assigns it."""


@dataclass(frozen=True)
class SplitArrays:
    """One split: images uint8 [N, H, W, C], labels int64 [N], records `RECORD` [N], groups int64 [N] or None."""

    images: np.ndarray
    labels: np.ndarray
    records: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Arrays:
    """All splits that are used, by name; `train` and `test` always exist."""

    splits: dict[str, SplitArrays]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What was left out, held out and sampled."""

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all shapes, bytes and class names. It reads all images: 8 GB take some seconds."""
        return fingerprint_of({name: (s.images, s.labels) for name, s in self.splits.items()}, self.class_names)

    @property
    def num_bytes(self) -> int:
        """Bytes of all pixels."""
        return sum(split.images.nbytes for split in self.splits.values())


def fingerprint_of(splits: dict[str, tuple[np.ndarray, np.ndarray]], class_names: tuple[str, ...]) -> str:
    """Hash the shapes, bytes and class names of a data set.

    Args:
        splits: (images, labels) of each split, by its name. The order of the splits matters.
        class_names: Names of the classes, in the order of the class numbers.

    Returns:
        The first 16 hex digits of the SHA-256.
    """
    digest = hashlib.sha256()
    for split, arrays in splits.items():
        for kind, array in zip(("images", "labels"), arrays, strict=True):
            digest.update(f"{split} {kind} {array.shape}".encode())
            digest.update(_bytes(array))
    digest.update("\n".join(class_names).encode())
    return digest.hexdigest()[:16]


def _bytes(array: np.ndarray) -> Any:
    return np.ascontiguousarray(array).data
