"""Summarises a data set in figures and sentences, for the terminal, study.yaml, the report and its table."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np

from winnow.search.data.foreign import counted, named, shown
from winnow.search.data.image_data import ImageData, Split
from winnow.search.data.not_classes import PART

MISSING = (
    "nan",
    "<na>",
    "n/a",
    "na",
    "null",
    "nil",
    "nat",
    "#n/a",
    "-1",
    "unlabeled",
    "unlabelled",
    "unsup",
    "background_google",
)
"""Names, in lower case, of missing values in tables, and of folders of images without a class. `None` is left out, since it often names a real class."""
NUMBER = re.compile(r"0*([0-9]+)(?:\.0*)?")
"""A whole number; its group has neither leading zeros nor empty decimals."""
SEPARATORS = ("|", ";", ",", "/", "&", "+", " ")
"""Separators between the labels of an image that has several."""
CERTAIN_SEPARATORS = ("|", ";")
"""Separators that are rare in the name of a single class, so that one known class between them is enough."""
MAX_CLASSES = 12
"""Largest number of classes in a sentence; the table has all."""


def summarize(data: ImageData, parts: Split, rule: str) -> dict[str, Any]:
    """Return the whole summary of a data set as a run uses it.

    Args:
        data: The images.
        parts: The indices of the images that are fitted, and of those that select.
        rule: How the validation split was chosen, from `source.validation_rule`.

    Returns:
        `text`, a list of sentences; `splits`, {split: {images, by_class, sizes}} with one entry per class in `by_class`;
        `traits`, {words: {split: images}}; `repeated`, {kind: images}; and further figures.
    """
    is_given = len(parts.train_index) == len(data.train_labels)
    validation = data.validation_labels if is_given else data.train_labels[parts.validation_index]
    labels = {"train": data.train_labels[parts.train_index], "validation": validation, "test": data.test_labels}
    facts = dict(data.facts)
    if not is_given:
        facts["repeated"] = _with_drawn(facts.get("repeated", {}), data.train_pixels, parts)
    splits = {}
    for name, values in labels.items():
        assert values is not None  # `is_given` says that the data set has a validation split
        counts = np.bincount(values, minlength=data.num_classes)
        of_files = facts.get("splits", {}).get(name if is_given or name != "validation" else "train", {})
        splits[name] = {"images": len(values), "by_class": counts.tolist(), "sizes": of_files.get("sizes")}
    channels, height, width = data.image_shape
    return {
        "text": _sentences(data, facts, splits, rule),
        "image_size": [height, width],
        "channels": channels,
        "splits": splits,
        "traits": facts.get("traits", {}),
        "repeated": facts.get("repeated", {}),
        "majority_share": _share(splits["test"]["by_class"]),
    }


def _with_drawn(repeated: Mapping[str, int], train_pixels: np.ndarray | None, parts: Split) -> dict[str, int]:
    """Return the counts of repeated images with those of a drawn validation split that are among the images that are fitted."""
    if train_pixels is None:
        return dict(repeated)
    shared = np.isin(train_pixels[parts.validation_index], train_pixels[parts.train_index])
    return {"of_validation_also_in_train": int(shared.sum()), **repeated}


# --- sentences ----------------------------------------------------------------------------------------------------


def _sentences(data: ImageData, facts: Mapping[str, Any], splits: Mapping[str, dict[str, Any]], rule: str) -> list[str]:
    channels, height, width = data.image_shape
    colour = "grey" if channels == 1 else "colour"
    nums = ", ".join(f"{split['images']:,} {name}" for name, split in splits.items())
    lines = [
        f"{data.name}: {nums} images of {data.num_classes} classes, {height}x{width} pixels (height x width), {colour}"
    ]
    lines += [f"validation: {rule}", *facts.get("taken", ()), *data.notes]
    lines += [f"{name}: {_classes_text(split['by_class'], data.class_names)}" for name, split in splits.items()]
    lines += _size_sentences(facts.get("splits", {}), height, width)
    lines += _alike_sentences(data.class_names)
    lines += [_trait_sentence(words, nums) for words, nums in facts.get("traits", {}).items()]
    return lines + _repeated_sentences(facts.get("repeated", {}))


def _size_sentences(splits: Mapping[str, Mapping[str, Any]], height: int, width: int) -> list[str]:
    """Describe the sizes of the files of each split, if they differ from the size of the images."""
    alike: dict[tuple[int, ...], list[str]] = {}
    for name, facts in splits.items():
        if sizes := facts.get("sizes"):
            bounds = [sizes[f"{end}_{side}"] for side in ("height", "width") for end in ("min", "max")]
            alike.setdefault((sizes["num_sizes"], *bounds), []).append(name)
    lines = []
    for (num_sizes, low, high, narrow, wide), names in alike.items():
        files = f"files of {' and '.join(names)}"
        if num_sizes > 1:
            lines.append(
                f"{files} have {num_sizes} sizes, {low} to {high} pixels high and {narrow} to {wide} wide; all were resized to "
                f"{height}x{width}"
            )
        elif (low, narrow) != (height, width):
            lines.append(f"{files}, {low}x{narrow} pixels, were resized to {height}x{width}")
    return lines


def _trait_sentence(words: str, nums: Mapping[str, int]) -> str:
    total = sum(nums.values())
    by_split = ", ".join(f"{num:,} {name}" for name, num in nums.items())
    return f"{counted(total, 'image is', 'images are')} {words} ({by_split})"


def _alike_sentences(names: Sequence[str]) -> list[str]:
    by_form: dict[str, list[str]] = {}
    for name in names:
        visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
        form = unicodedata.normalize("NFKC", visible).strip().casefold()
        number = NUMBER.fullmatch(form)
        by_form.setdefault(number[1] if number else form, []).append(name)
    alike = [" and ".join(repr(shown(name)) for name in same) for same in by_form.values() if len(same) > 1]
    lines = [f"warning: classes whose names differ by case, blanks or zeros alone: {named(alike)}"] if alike else []
    missing = [name for name in names if name.strip().casefold() in MISSING]
    if missing:
        lines.append(f"warning: a class is named {named(missing)}, which usually marks images without a label")
    if all(map(PART.fullmatch, names)):
        lines.append(f"warning: the classes are named {named(names)}, which usually are parts of one set")
    joined = [name for name in names if _joins(name, set(names))]
    if joined:
        lines.append(
            f"warning: a class is named {named(joined)}, after other classes, which usually marks images of several classes"
        )
    return lines


def _joins(name: str, names: Set[str]) -> bool:
    """Return whether a name lists other classes, as `rust scab` or `Mass|Nodule` do."""
    for separator in SEPARATORS:
        if separator in name:
            are_classes = [part.strip() in names for part in name.split(separator)]
            if all(are_classes) or (separator in CERTAIN_SEPARATORS and any(are_classes)):
                return True
    return False


def _classes_text(counts: Sequence[int], names: Sequence[str]) -> str:
    """Describe the classes as in `120 cat, 80 dog (the largest class holds 60.0%)`."""
    order = sorted(range(len(counts)), key=lambda k: -counts[k])
    listed = ", ".join(f"{counts[k]:,} {shown(names[k])}" for k in order[:MAX_CLASSES])
    if len(counts) > MAX_CLASSES:
        listed += f", ... {counts[order[-1]]:,} {shown(names[order[-1]])}"
    empty = sum(count == 0 for count in counts)
    lacking = f"; {counted(empty, 'class has', 'classes have')} no image here" if empty else ""
    return f"{listed} (the largest class holds {_share(counts):.1%}{lacking})"


def _repeated_sentences(repeated: Mapping[str, int]) -> list[str]:
    lines = []
    if repeated.get("equal_pixels"):
        same = (
            f"{repeated['equal_files']:,} of them {'as an equal file' if repeated['equal_files'] == 1 else 'as equal files'}"
            if repeated["equal_files"]
            else "none as an equal file"
        )
        repeats = counted(repeated["equal_pixels"], "image repeats", "images repeat")
        lines.append(f"{repeats} an earlier one pixel by pixel, {same}")
    for key, num in repeated.items():
        if num and "_also_in_" in key:
            second, _, first = key.removeprefix("of_").partition("_also_in_")
            of_second = counted(num, f"image of {second} is", f"images of {second} are")
            lines.append(f"warning: {of_second} in {first} too, so its accuracy is too good")
    if repeated.get("under_two_labels"):
        lines.append(
            f"warning: {counted(repeated['under_two_labels'], 'image stands', 'images stand')} under two labels or more"
        )
    return lines


def _share(counts: Sequence[int]) -> float:
    """Return the share of the largest class, which is the accuracy of always predicting it."""
    return round(max(counts, default=0) / max(1, sum(counts)), 6)
