"""Counts sizes, traits and repeated images in the files of a data set. The figures are plain values, ready for YAML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from winnow.search.data.arrays import Arrays
from winnow.search.data.decode import Trait

TRAIT_WORDS = {
    Trait.GREY: "grey, taken as colour",
    Trait.COLOUR: "in colour, turned grey",
    Trait.TRANSPARENT: "transparent, laid on white",
    Trait.ROTATED: "turned upright by their EXIF orientation",
    Trait.FRAMES: "of several frames, the first of which is used",
    Trait.WIDE: "of 16 or 32 bits or floats, scaled by data.pixel_range",
    Trait.OUTSIDE: "of pixels that lie mostly outside data.pixel_range, and are black or white",
    Trait.NARROW: "of pixels that differ by less than a tenth of data.pixel_range, so that few shades are left",
    Trait.REDUCED: "of colours of 9 to 16 bits, of which the upper 8 bits are used",
}


def facts_of(arrays: Arrays, taken: Sequence[str]) -> dict[str, Any]:
    """Return facts about the files, before the validation split is drawn, as plain values.

    Args:
        arrays: All splits.
        taken: Sentences that say which column or folder was used for what.
    """
    splits = {
        name: {
            "sizes": _sizes(part.records),
        }
        for name, part in arrays.splits.items()
    }
    return {"taken": list(taken), "splits": splits, "traits": _traits(arrays), "repeated": _repeated(arrays)}


def _sizes(records: np.ndarray) -> dict[str, int] | None:
    """Return the smallest and the largest height and width of the files, in pixels, and how many sizes there are."""
    if not len(records):
        return None
    pairs = np.unique(np.stack([records["height"], records["width"]]), axis=1)
    return {
        "num_sizes": pairs.shape[1],
        "min_height": int(pairs[0].min()),
        "max_height": int(pairs[0].max()),
        "min_width": int(pairs[1].min()),
        "max_width": int(pairs[1].max()),
    }


def _traits(arrays: Arrays) -> dict[str, dict[str, int]]:
    """Count the images with each trait, by split; traits and splits without one are left out."""
    traits = {}
    for trait, words in TRAIT_WORDS.items():
        nums = {name: int(((part.records["traits"] & int(trait)) != 0).sum()) for name, part in arrays.splits.items()}
        if counts := {name: num for name, num in nums.items() if num}:
            traits[words] = counts
    return traits


def _repeated(arrays: Arrays) -> dict[str, int]:
    """Count images that occur more than once: equal files, equal pixels, in one split, in two splits, under two labels."""
    split = np.concatenate([np.full(len(part), k) for k, part in enumerate(arrays.splits.values())])
    labels = np.concatenate([part.labels for part in arrays.splits.values()])
    records = np.concatenate([part.records for part in arrays.splits.values()])
    names = list(arrays.splits)
    groups = _numbered(records["pixel_key"])
    counts = {
        "equal_files": _surplus(_numbered(records["file_key"])),
        "equal_pixels": _surplus(groups),
        "under_two_labels": _num_mixed(groups, labels),
    }
    for k, name in enumerate(names):
        counts[f"within_{name}"] = _surplus(groups[split == k])
    for i, first in enumerate(names):
        for j in range(i + 1, len(names)):
            shared = np.isin(groups[split == j], groups[split == i])
            counts[f"of_{names[j]}_also_in_{first}"] = int(shared.sum())
    return counts


def _numbered(keys: np.ndarray) -> np.ndarray:
    return np.unique(keys, return_inverse=True)[1]


def _surplus(groups: np.ndarray) -> int:
    """Count the images beyond the first of each group."""
    return len(groups) - len(np.unique(groups))


def _num_mixed(groups: np.ndarray, labels: np.ndarray) -> int:
    """Count the images whose pixels occur under several labels."""
    pairs = np.unique(np.stack([groups, labels]), axis=1)
    mixed = np.flatnonzero(np.bincount(pairs[0]) > 1)
    return int(np.isin(groups, mixed).sum())
