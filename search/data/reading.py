"""Turns a listing into arrays: checks labels, decodes images, counts damaged ones, holds out a test set, applies `data.limit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from winnow.search.data.arrays import RECORD, Arrays, SplitArrays
from winnow.search.data.cache import cached, content_key
from winnow.search.data.class_order import ranked
from winnow.search.data.decode import (
    Decoded,
    Rules,
    Trait,
    decode_one,
    in_threads,
    is_grey,
    many_pixels_allowed,
    size_of,
)
from winnow.search.data.foreign import NUM_NAMED, named
from winnow.search.data.hold_out import hold_out, sample
from winnow.search.data.labels import number_labels
from winnow.search.data.listing import SPLITS, Encoded, Listing, Part
from winnow.search.data.space_left import allocate
from winnow.spaces import schema
from winnow.spaces.errors import InputError

HELD_OUT_TEST = 0.2
HELD_OUT_SEED = 0
LIMIT_SEED = 0
NUM_LOOKED_AT = 1000
"""Number of images that decide whether the data set is grey."""
NO_EFFECT = {"path", "validation", "stratified", "normalize", "augment", "extra", "sampling"}
"""Settings that do not change which images are read. The splits in use are a separate part of the cache key."""


def read_arrays(listing: Listing, data: schema.Data, data_dir: Path) -> Arrays:
    """Return the arrays of a data set, from the cache if they were read before.

    Args:
        listing: The images of each split.
        data: The `data` section of a config.
        data_dir: Folder of the data sets and the cache.

    Raises:
        InputError: The data set cannot be used.
    """
    where = data.path or data.name
    if data.validation == "given" and "validation" not in listing.parts:
        raise InputError(f"data.validation: `given`, but {where} has no validation split; give a fraction")
    labels = {split: listing.parts[split].labels for split in SPLITS if split in listing.parts}
    names, numbers = number_labels(labels, listing.class_names, where, data.remap_labels)
    notes = []
    if isinstance(data.validation, float) and "validation" in numbers:
        num = len(numbers.pop("validation"))
        notes.append(
            f"the validation split of the data set ({num:,} images) is not used, since data.validation is a fraction"
        )
    groups = _group_numbers(listing, list(numbers), where)
    rows = {split: np.arange(len(values)) for split, values in numbers.items()}
    if data.limit is not None and "test" in numbers:
        rows["train"] = sample(ranked(numbers["train"], names), data.limit, LIMIT_SEED)

    def build(scratch: Path | None) -> Arrays:
        read = _decoded(listing, numbers, groups, rows, data, scratch)
        return _finished(read, names, listing, data, notes, scratch)

    if listing.files is None:
        return build(None)
    options = data.model_dump(mode="json", exclude=NO_EFFECT)
    options |= {
        "parts": {split: _digest_of(values) for split, values in numbers.items()},
        "names": names,
        "notes": notes,
    }
    options |= {"source": listing.source_key, "groups": {split: _digest_of(values) for split, values in groups.items()}}
    if data.skip_damaged:  # the sentence about images that are left out names them
        options["names"] = {
            split: _digest_of_names(listing.parts[split], split_rows) for split, split_rows in rows.items()
        }
    return cached(data_dir / ".cache", content_key(listing.files, options), build)


def first_shape(listing: Listing, data: schema.Data) -> tuple[int, int, int]:
    """Return the (channels, height, width) that the images will have, from the headers of the first ones.

    If sizes differ and `data.size` is not set, it is the size of the first readable image.

    Args:
        listing: The images of each split.
        data: The `data` section of a config.

    Raises:
        InputError: None of the first images can be read.
    """
    train = listing.parts["train"]
    first = list(range(min(NUM_LOOKED_AT, len(train.labels))))
    channels = data.channels or _num_channels(train.items(first))
    if data.size is not None:
        return channels, *data.size
    for item in train.items(first):
        with suppress(InputError):
            return channels, *size_of(item)
    raise InputError(f"{data.path or data.name}: none of the first {len(first)} images can be read")


def _digest_of(values: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(values).data).hexdigest()


def _digest_of_names(part: Part, rows: np.ndarray) -> str:
    return sha256("\n".join(part.names(rows.tolist())).encode("utf-8", "surrogateescape")).hexdigest()


def _group_numbers(listing: Listing, splits: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """Return the group number of each image, int64 by split. Raises InputError if a group is in two splits of the data set."""
    texts = {split: listing.parts[split].groups for split in splits}
    present = {split: values for split, values in texts.items() if values is not None}
    if not present:
        return {}
    number = {
        text: k for k, text in enumerate(sorted({text for values in present.values() for text in values.tolist()}))
    }
    for i, first in enumerate(present):
        for second in list(present)[i + 1 :]:
            shared = sorted(set(present[first].tolist()) & set(present[second].tolist()))
            if shared:
                raise InputError(
                    f"{where}: {len(shared)} groups are in both {first} and {second}: {named(shared)}; move all images of a group "
                    "into one split, or merge the splits and let Winnow split them"
                )
    return {split: np.array([number[text] for text in values.tolist()]) for split, values in present.items()}


# --- decoding -----------------------------------------------------------------------------------------------------


def _decoded(
    listing: Listing,
    labels: Mapping[str, np.ndarray],
    groups: Mapping[str, np.ndarray],
    rows: Mapping[str, np.ndarray],
    data: schema.Data,
    scratch: Path | None,
) -> tuple[dict[str, SplitArrays], list[str]]:
    """Return all splits, and a sentence about images that were left out. An InputError counts the damaged images of all splits."""
    with many_pixels_allowed():
        channels = data.channels or _num_channels(listing.parts["train"].items(rows["train"][:NUM_LOOKED_AT].tolist()))
        pixel_range = (data.pixel_range[0], data.pixel_range[1]) if data.pixel_range else None
        reader = _Reader(Rules(data.size, channels, pixel_range), strict=data.channels is None)
        splits = {}
        for split, selected in rows.items():
            items = listing.parts[split].items(selected.tolist())
            images, records, kept = reader.read(items, len(selected), scratch, f"{split}_decoded")
            chosen = selected[kept]
            records["row"] = chosen
            splits[split] = SplitArrays(
                images, labels[split][chosen], records, groups[split][chosen] if split in groups else None
            )
    num = sum(len(selected) for selected in rows.values())
    return splits, reader.verdict(num, data.skip_damaged)


def _num_channels(items: Any) -> int:
    """Return 3 if one of these images is in colour, else 1; damaged ones are reported later."""
    for item in items:
        try:
            if not is_grey(item):
                return 3
        except InputError:
            continue
    return 1


class _Reader:
    """Decodes one split after the other, all to the same shape, and collects their problems."""

    def __init__(self, rules: Rules, strict: bool) -> None:
        self._rules, self._strict = rules, strict
        self._damaged: list[str] = []
        self._odd: list[str] = []

    def read(self, items: Any, num: int, scratch: Path | None, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images uint8 [n, H, W, C], their records, and their indices among the `num` items; n < num if some are damaged."""
        records = np.zeros(num, dtype=RECORD)
        kept: list[int] = []
        images: np.ndarray | None = None
        first = ""
        for row, (item, decoded) in enumerate(in_threads(self._try, iter(items))):
            if isinstance(decoded, InputError):
                self._damaged.append(str(decoded))
                continue
            if images is None:
                images, first = allocate((num, *decoded.pixels.shape), scratch, name), item.where
            if decoded.pixels.shape != images.shape[1:]:
                height, width = images.shape[1:3]
                self._odd.append(
                    f"{item.where}: the image is {decoded.height}x{decoded.width}, but {first} is {height}x{width}"
                )
                continue
            images[len(kept)] = decoded.pixels
            records[len(kept)] = (
                decoded.file_key,
                decoded.pixel_key,
                decoded.height,
                decoded.width,
                int(decoded.traits),
                0,  # the row is set by the caller
            )
            kept.append(row)
        if images is None:
            images = np.empty((0, 1, 1, self._rules.channels), dtype=np.uint8)
        return images[: len(kept)], records[: len(kept)], np.array(kept, dtype=np.int64)

    def _try(self, item: Encoded) -> tuple[Encoded, Decoded | InputError]:
        try:
            decoded = decode_one(item, self._rules)
        except InputError as error:
            return item, error
        if self._strict and self._rules.channels == 1 and not decoded.is_grey:
            raise InputError(f"{item.where}: a colour image among greyscale images; set `data.channels` to 1 or 3")
        return item, decoded

    def verdict(self, num: int, skip_damaged: bool) -> list[str]:
        """Return a sentence about the images that were left out. Raises InputError if `skip_damaged` is false or sizes differ."""
        more = "; data.skip_damaged: true leaves such images out"
        if self._damaged and not skip_damaged:
            if len(self._damaged) == 1:
                raise InputError(self._damaged[0] + more)
            raise InputError(f"{len(self._damaged)} of {num} images cannot be read: {self._first(self._damaged)}{more}")
        if self._odd:
            count = f"{len(self._odd)} images differ in size: " if len(self._odd) > 1 else ""
            raise InputError(
                f"{count}{self._first(self._odd, 1)} (height x width); sizes differ, so set `data.image_size`"
            )
        if not self._damaged:
            return []
        return [f"left out: {len(self._damaged)} of {num} images that cannot be read: {self._first(self._damaged)}"]

    @staticmethod
    def _first(messages: Sequence[str], num: int = NUM_NAMED) -> str:
        return "; ".join(islice(messages, num)) + ("; ..." if len(messages) > max(num, 1) and num > 1 else "")


# --- the last steps -----------------------------------------------------------------------------------------------


def _finished(
    read: tuple[dict[str, SplitArrays], list[str]],
    names: tuple[str, ...],
    listing: Listing,
    data: schema.Data,
    notes: Sequence[str],
    scratch: Path | None,
) -> Arrays:
    """Order training images by their pixels, hold out a test set, apply the limit, and check the result."""
    splits, left_out = read
    where, sentences = data.path or data.name, [*notes, *left_out]
    train = splits["train"]
    if not len(train):
        raise InputError(f"{where}: no training image is left")
    ranks = ranked(train.labels, names)
    order = np.arange(len(train)) if listing.keep_order else np.lexsort((ranks, train.records["pixel_key"]))
    test_rows = None
    if "test" not in splits:
        kept, test = hold_out(ranks[order], HELD_OUT_TEST, True, HELD_OUT_SEED, _at(train.groups, order))
        order, test_rows = order[kept], order[test]
        kind = "stratified" if train.groups is None else "grouped"
        sentences.append(
            f"{data.name} has no test images: a fixed {kind} {HELD_OUT_TEST:.0%} ({len(test_rows)} images, the same for "
            "every seed) is held out as the test set"
        )
    if data.limit is not None and len(order) > data.limit:
        order = order[sample(ranks[order], data.limit, LIMIT_SEED)]
    if data.limit is not None and data.limit < len(listing.parts["train"].labels):
        sentences.append(f"data.limit: a stratified sample of {len(order):,} training images")
    finished = {"train": _taken(train, order, scratch, "train_images")}
    if "validation" in splits:
        finished["validation"] = splits["validation"]
    finished["test"] = splits["test"] if test_rows is None else _taken(train, test_rows, scratch, "test_images")
    for split, part in finished.items():
        if not len(part):
            cause = ""
            if len(names) == len(train):
                cause = "; every class has only one image, so none can be held out; check that these are classes"
            elif split == "test" and train.groups is not None:
                cause = (
                    f"; no group of data.groups is small enough to hold it out as {HELD_OUT_TEST:.0%} and to leave every class training "
                    "images; add a test split, or choose smaller groups"
                )
            raise InputError(f"{where}: no {split} image is left{cause}")
    missing = [names[k] for k in np.flatnonzero(np.bincount(finished["train"].labels, minlength=len(names)) == 0)]
    if missing:
        raise InputError(
            f"{where}: no training image is left for {len(missing)} of {len(names)} classes: {named(missing, 5)}"
        )
    _check_shapes(finished, where)
    _refuse_unused_range(splits, data, where)
    return Arrays(finished, names, tuple(sentences))


def _at(values: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return None if values is None else values[rows]


def _taken(part: SplitArrays, rows: np.ndarray, scratch: Path | None, name: str) -> SplitArrays:
    if len(rows) == len(part) and np.array_equal(rows, np.arange(len(part))):
        images = part.images
    else:
        images = allocate((len(rows), *part.images.shape[1:]), scratch, name)
        for start in range(0, len(rows), NUM_LOOKED_AT):
            images[start : start + NUM_LOOKED_AT] = part.images[rows[start : start + NUM_LOOKED_AT]]
    return SplitArrays(images, part.labels[rows], part.records[rows], _at(part.groups, rows))


def _refuse_unused_range(splits: Mapping[str, SplitArrays], data: schema.Data, where: str) -> None:
    scaled = int(Trait.WIDE | Trait.REDUCED)
    if data.pixel_range is not None and not any((part.records["traits"] & scaled).any() for part in splits.values()):
        raise InputError(
            f"{where}: data.pixel_range: {data.pixel_range} has no effect, since all images have 8 bits per channel, which are "
            "taken as they are; remove it"
        )


def _check_shapes(splits: Mapping[str, SplitArrays], where: str) -> None:
    shapes = {split: part.images.shape[1:] for split, part in splits.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{split} {height}x{width}x{channels}" for split, (height, width, channels) in shapes.items())
        raise InputError(f"{where}: image shapes differ between splits ({sizes}); set `data.image_size`")
