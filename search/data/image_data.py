"""A data set as plain arrays that all workers share, and its split into training and validation images."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from winnow.reports.durable import write_whole
from winnow.search.data.arrays import fingerprint_of
from winnow.search.data.class_order import ranked
from winnow.search.data.foreign import named
from winnow.search.data.hold_out import hold_out
from winnow.spaces.errors import InputError
from winnow.spaces.schema.data import DEFAULT_VALIDATION


@dataclass(frozen=True)
class ImageData:
    """A data set: images uint8 [N, H, W, C], labels int64 [N]. Arrays may be read-only (shared between processes)."""

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray | None
    """Set only if the data set has a validation split."""
    validation_labels: np.ndarray | None
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]
    fingerprint: str
    """The first 16 hex digits of the SHA-256 of all shapes and bytes."""
    notes: tuple[str, ...] = ()
    """What a reader of the results must know, such as that Winnow itself held out the test set."""
    train_groups: np.ndarray | None = None
    """int64 [N]: training images of one group are never divided; None: there are no groups."""
    train_pixels: np.ndarray | None = field(default=None, repr=False)
    """uint64 [N]: equal for training images of equal pixels; None: not known."""
    test_names: tuple[str, ...] = field(default=(), repr=False)
    """Name of each test image: its file, or its row in the data set. Empty: not known."""
    validation_names: Mapping[int, str] = field(default_factory=dict, repr=False)
    """Name of each image that selects, by its index in `Split.validation_index`. Empty: not asked for, or in a worker, which needs none."""
    facts: dict[str, Any] = field(default_factory=dict, repr=False)
    """What was read, from `facts.facts_of`: columns, sizes, repeated images."""

    def __getstate__(self) -> dict[str, Any]:
        """Replace arrays in mapped files by the names of these files, since copies would fill the memory, and leave out validation names."""
        state = {name: getattr(self, name) for name in self.__dataclass_fields__} | {"validation_names": {}}
        return {name: _Mapped.of(value) if isinstance(value, np.memmap) else value for name, value in state.items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value.opened() if isinstance(value, _Mapped) else value)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image: (channels, height, width)."""
        height, width, channels = self.train_images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True)
class _Mapped:
    """The pickled form of an array that is mapped from a whole .npy file."""

    path: Path

    @staticmethod
    def of(array: np.memmap) -> _Mapped:
        return _Mapped(Path(str(array.filename)))

    def opened(self) -> np.ndarray:
        try:
            array: np.ndarray = np.load(self.path, mmap_mode="r")
            return array
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.path}: the decoded images cannot be read on {platform.node()} ({error}); they are too many for the memory, "
                "so every node must reach the folder of --data-dir under the same name"
            ) from error


@dataclass(frozen=True)
class Split:
    """The images that are fitted and those that select: ascending int64 indices into the training images, or into a given validation split."""

    train_index: np.ndarray
    validation_index: np.ndarray


def fingerprint(data: ImageData) -> str:
    """Return the first 16 hex digits of the SHA-256 of all shapes, bytes and class names."""
    splits = {"train": (data.train_images, data.train_labels)}
    if data.validation_images is not None and data.validation_labels is not None:
        splits["validation"] = (data.validation_images, data.validation_labels)
    return fingerprint_of({**splits, "test": (data.test_images, data.test_labels)}, data.class_names)


def uses_given(data: ImageData, validation: float | Literal["given"] | None) -> bool:
    """Return whether the data set's own validation split is used: if `validation` is `given`, or None and there is one.

    Args:
        data: The images.
        validation: The value of `data.validation`.
    """
    return validation == "given" or (validation is None and data.validation_labels is not None)


def split(data: ImageData, validation: float | Literal["given"] | None, stratified: bool, seed: int) -> Split:
    """Divide the images into those that are fitted and those that select.

    Args:
        data: The images.
        validation: Fraction of the training images that select, in (0, 1); `given`: the data set's validation split; None: that
            split if there is one, else `DEFAULT_VALIDATION` of the training images.
        stratified: Whether each class has the same share in both parts.
        seed: Seed of the split.

    Raises:
        InputError: A part is empty, a class has no image to fit, or the data set lacks the validation split.
    """
    num = len(data.train_labels)
    if uses_given(data, validation):
        if data.validation_labels is None:
            raise InputError(f"data.validation: `given`, but {data.name} has no validation split; give a fraction")
        return Split(np.arange(num), np.arange(len(data.validation_labels)))
    share = validation if isinstance(validation, float) else DEFAULT_VALIDATION
    train, held_out = hold_out(ranked(data.train_labels, data.class_names), share, stratified, seed, data.train_groups)
    if not len(train) or not len(held_out):
        raise InputError(
            f"data.validation: {share} of {num} training images leaves {len(train)} to fit and {len(held_out)} "
            "to validate; both need one image at least"
        )
    lost = [data.class_names[k] for k in np.setdiff1d(data.train_labels, data.train_labels[train])]
    if lost:
        raise InputError(
            f"data.validation: {share} of {num} training images leaves none to fit of {len(lost)} classes: {named(lost)}; "
            "set data.stratified: true, hold out less, or add images"
        )
    return Split(train, held_out)


def joined(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Join two arrays. If the first is mapped from a file, the result is mapped from a new file next to it.

    Args:
        first: Array [N, ...].
        second: Array [M, ...] of the same type.

    Returns:
        Array [N + M, ...].

    Raises:
        InputError: The disk has no room for the file.
    """
    if not isinstance(first, np.memmap):
        return np.concatenate([first, second])
    path = Path(str(first.filename)).with_name("train_and_validation_images.npy")
    if not path.exists():
        from winnow.search.data.cache import locked_folder

        with locked_folder(path.parent):  # all workers of a retraining, perhaps on several nodes, need this one file
            if not path.exists():
                _write_joined(path, first, second)
    array: np.ndarray = np.load(path, mmap_mode="r")
    return array


def _write_joined(path: Path, first: np.ndarray, second: np.ndarray) -> None:
    if shutil.disk_usage(path.parent).free < first.nbytes + second.nbytes:
        raise InputError(
            f"{path.parent}: no room for a copy of the training and validation images; choose another --data-dir"
        )

    def write(part: Path) -> None:
        shape = (len(first) + len(second), *first.shape[1:])
        both = np.lib.format.open_memmap(part, "w+", dtype=first.dtype, shape=shape)
        both[: len(first)], both[len(first) :] = first, second
        both.flush()

    write_whole(path, write)
