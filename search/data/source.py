"""Reads the images of a space, and describes them for a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from winnow.search.data.arrays import SplitArrays
from winnow.search.data.datasets import list_dataset
from winnow.search.data.facts import facts_of
from winnow.search.data.image_data import ImageData, split, uses_given
from winnow.search.data.listing import Listing
from winnow.search.data.reading import first_shape, read_arrays
from winnow.search.data.space_left import room_note
from winnow.search.data.summary import summarize
from winnow.spaces import schema
from winnow.spaces.schema.data import DEFAULT_VALIDATION
from winnow.spaces.space import Space
from winnow.spaces.validation import check


@dataclass(frozen=True)
class Source:
    """Where the images are on this machine. It is not part of the space, since it differs between machines."""

    data_dir: Path
    download: bool = False


def load(data: schema.Data, data_dir: Path, download: bool = False, name_validation_of: int | None = None) -> ImageData:
    """Read a data set.

    Args:
        data: The `data` section of a config.
        data_dir: Folder of the data sets.
        download: Whether a missing data set is downloaded. Default: False.
        name_validation_of: Seed of the split whose validation images are named. Default: none are named.

    Raises:
        InputError: The data set is missing or cannot be used; the message says which file and where.
    """
    listing = list_dataset(data, data_dir, download)
    arrays = read_arrays(listing, data, data_dir)
    train, test, validation = arrays.splits["train"], arrays.splits["test"], arrays.splits.get("validation")
    images = ImageData(
        name=data.name,
        train_images=train.images,
        train_labels=train.labels,
        validation_images=validation.images if validation else None,
        validation_labels=validation.labels if validation else None,
        test_images=test.images,
        test_labels=test.labels,
        class_names=arrays.class_names,
        fingerprint=arrays.fingerprint,
        notes=arrays.notes,
        train_groups=train.groups,
        train_pixels=train.records["pixel_key"],
        test_names=tuple(_names(listing, "test", test)),
        facts=facts_of(arrays, listing.notes),
    )
    if name_validation_of is None:
        return images
    index = split(images, data.validation, data.stratified, name_validation_of).validation_index
    of_split, part = ("train", train) if validation is None else ("validation", validation)
    names = _names(listing, of_split, part, index)
    return replace(images, validation_names=dict(zip(index.tolist(), names, strict=True)))


def _names(listing: Listing, of_split: str, part: SplitArrays, index: np.ndarray | None = None) -> list[str]:
    """Return the names of the images of a split, or of those at an index. A test set that was held out is listed with the training images."""
    rows = part.records["row"] if index is None else part.records["row"][index]
    return listing.parts.get(of_split, listing.parts["train"]).names(rows.tolist())


def load_data(space: Space, source: Source, name_validation_of: int | None = None) -> ImageData:
    """Read the images of a space. All configs of a space read the same images.

    Args:
        space: The space.
        source: Where its images are read from.
        name_validation_of: Seed of the split whose validation images are named. Default: none are named.
    """
    return load(space.example().data, source.data_dir, source.download, name_validation_of)


def check_on_images(space: Space, source: Source) -> str | None:
    """Check that the networks of a space fit its images. Only the headers of the images are read, and nothing is downloaded.

    Args:
        space: The space. Its images are read only if `data.path` exists, since a space can be printed without them.
        source: Where decoded images are kept.

    Returns:
        A sentence about the memory or disk that the decoded images take; None if no image was read.

    Raises:
        InputError: A network does not fit, the images cannot be used, or they fit neither into the memory nor on the disk.
    """
    data = space.example().data
    if data.path is None or not Path(data.path).exists() or ":" in data.name:
        return None
    listing = list_dataset(data, source.data_dir, download=False)
    shape = first_shape(listing, data)
    check(space, shape)
    num = sum(len(part.labels) for part in listing.parts.values())
    return f"{num:,} images: {room_note(num * math.prod(shape), source.data_dir / '.cache')}"


def describe_data(data: ImageData, space: Space, seed: int) -> dict[str, Any]:
    """Return the facts about the images that a run records, with the summary of `summary.summarize`.

    Args:
        data: The images.
        space: The space that is searched.
        seed: Seed of the run, which decides the validation split.
    """
    config = space.example().data
    parts = split(data, config.validation, config.stratified, seed)
    return {
        "name": data.name,
        "image_shape": list(data.image_shape),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "num_train": len(parts.train_index),
        "num_validation": len(parts.validation_index),
        "num_test": len(data.test_labels),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
        "summary": summarize(data, parts, validation_rule(config, seed, uses_given(data, config.validation))),
    }


def validation_rule(config: schema.Data, seed: int, is_given: bool) -> str:
    """Describe how the validation split is chosen.

    Args:
        config: The `data` section of a config.
        seed: Seed of the run.
        is_given: Whether the data set's own validation split is used.

    Returns:
        A phrase such as `10% of the training images, stratified, drawn with seed 0`.
    """
    if is_given:
        return "the validation split of the data set" + (" (by default)" if config.validation is None else "")
    share = config.validation if isinstance(config.validation, float) else DEFAULT_VALIDATION
    kind = "whole groups" if config.groups else "stratified" if config.stratified else "at random"
    return f"{share:.0%} of the training images, {kind}, drawn with seed {seed}"
