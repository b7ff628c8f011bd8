"""Turns labels as people write them into class numbers 0, 1, ... Labels are checked before memory is allocated for the classes."""

from __future__ import annotations

import ast
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice

import numpy as np

from winnow.search.data.class_order import WHOLE, by_number_or_name
from winnow.search.data.foreign import counted, named, shown
from winnow.search.data.listing import text_array
from winnow.spaces.errors import InputError

REMAP = "set data.remap_labels: true to number the classes that occur from 0"

Labels = Mapping[str, np.ndarray]
"""{split: labels [N]}, integers or an object array of names."""


def number_labels(
    labels: Labels, class_names: Sequence[str] | None, where: str, remap: bool
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Turn labels into class numbers.

    Args:
        labels: The labels of every split, including `train`.
        class_names: Names of integer labels; None if they are not known.
        where: The data set, as it is named in errors.
        remap: Whether to number the integers that occur from 0.

    Returns:
        The class names, and by split the class number of every image: int64 [N] in [0, number of names).

    Raises:
        InputError: A label cannot be a class; the message says the likely cause.
    """
    for split, values in labels.items():
        if not len(values):
            raise InputError(f"{where}: the {split} split holds no image")
    labels = {split: _composed(values) for split, values in labels.items()}
    class_names = None if class_names is None else [unicodedata.normalize("NFC", name) for name in class_names]
    kinds = {split: values.dtype.kind == "O" for split, values in labels.items()}
    if len(set(kinds.values())) > 1:
        kinds_text = ", ".join(f"{split}: {'text' if is_text else 'numbers'}" for split, is_text in kinds.items())
        raise InputError(f"{where}: the labels are of different types ({kinds_text}); write them alike in all splits")
    if kinds["train"]:
        _check_text(labels["train"], where, remap)
        names, numbers = _from_text(labels, class_names, where)
    else:
        names, numbers = _from_integers(labels, class_names, where, remap)
    check_names(names, where)
    if len(names) < 2:
        raise InputError(f"{where}: at least 2 classes are needed, but there is {len(names)}: {named(names)}")
    return names, numbers


def _composed(values: np.ndarray) -> np.ndarray:
    """Return names in Unicode's composed form, like the names of folders, so that names that look the same are the same class."""
    return text_array(unicodedata.normalize("NFC", name) for name in values) if values.dtype.kind == "O" else values


def check_names(names: Sequence[str], where: str) -> None:
    """Check that class names are unique and not empty, and can be written into any file.

    Args:
        names: Names of the classes, in the order of the class numbers.
        where: The data set, as it is named in errors.

    Raises:
        InputError: A name is empty, is not valid UTF-8, or occurs twice.
    """
    for name in names:
        if not name.strip():
            raise InputError(f"{where}: a class name is empty; every class needs a name")
        try:
            name.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where}: the class name {shown(name)} is not valid UTF-8; rename it") from None
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(
            f"{where}: {counted(len(twice), 'class name stands', 'class names stand')} for several classes each: {named(twice)}"
        )


def _check_text(values: np.ndarray, where: str, remap: bool) -> None:
    """Refuse texts that are lists of labels, and negative numbers without `remap`."""
    names = sorted(set(values.tolist()))
    lists = [name for name in names if name.startswith(("[", "(", "{")) and _is_list(name)]
    if lists:
        raise InputError(
            f"{where}: the label {shown(lists[0])} is a list: several labels per image; Winnow trains networks that give each "
            "image one class, so such data sets cannot be used"
        )
    numeric = [name for name in names if WHOLE.fullmatch(name)]
    if remap and len(numeric) < len(names):
        raise InputError(f"{where}: data.remap_labels: True has no effect on labels that are text; remove it")
    if not remap and len(numeric) == len(names) and names[0].startswith("-"):
        raise InputError(
            f"{where}: train labels are numbers from {min(map(int, names))}; negative labels usually mark images without one: "
            f"leave these images out, or {REMAP}"
        )


def _is_list(text: str) -> bool:
    with suppress(ValueError, SyntaxError, MemoryError, RecursionError):
        return isinstance(ast.literal_eval(text), list | tuple | set | dict)
    return False


def _from_text(
    labels: Labels, class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    names = tuple(class_names or by_number_or_name(list(set(labels["train"].tolist()))))
    number = {name: k for k, name in enumerate(names)}
    numbers = {}
    for split, values in labels.items():
        unknown = sorted(set(values.tolist()) - number.keys())
        if unknown:
            near = [other for other in names if other.casefold() == unknown[0].casefold()]
            hint = f"; {shown(unknown[0])} differs from {shown(near[0])} by its letters' case alone" if near else ""
            raise InputError(
                f"{where}: {split} has {counted(len(unknown), 'class', 'classes')} that train has not: {named(unknown)}{hint}; "
                "a class needs training images"
            )
        numbers[split] = np.fromiter((number[value] for value in values), dtype=np.int64, count=len(values))
    _refuse_empty(names, numbers["train"], where, "leave their names out")
    return names, numbers


def _from_integers(
    labels: Labels, class_names: Sequence[str] | None, where: str, remap: bool
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    numbers = {split: values.astype(np.int64) for split, values in labels.items()}
    used = np.unique(numbers["train"])
    for split, values in numbers.items():
        _refuse_unlabelled(split, values, where)
    if remap:
        return _remapped(numbers, used, class_names, where)
    # Nothing is allocated for a large label: names are made only at the end, when every class is known to have an image.
    num_classes = len(class_names) if class_names is not None else int(used[-1]) + 1
    for split, values in numbers.items():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= num_classes:
            cause = _cause(low, high, num_classes, split, class_names is not None)
            raise InputError(
                f"{where}: {split} labels lie in [{low}, {high}], but must lie in [0, {num_classes - 1}] for {num_classes} "
                f"classes{cause}"
            )
    if class_names is None and len(used) < num_classes:
        cause = "the labels start at 1" if used[0] == 1 and len(used) == num_classes - 1 else "the labels have gaps"
        occurring = set(used.tolist())
        first = [str(k) for k in islice((k for k in range(num_classes) if k not in occurring), 6)]
        raise InputError(
            f"{where}: no training image of {num_classes - len(used)} of {num_classes} classes: {named(first, 5)} "
            f"({cause}: {len(used)} values from {used[0]} to {used[-1]}); {REMAP}"
        )
    names = tuple(class_names) if class_names is not None else tuple(map(str, range(num_classes)))
    _refuse_empty(names, numbers["train"], where, REMAP)
    return names, numbers


def _refuse_unlabelled(split: str, values: np.ndarray, where: str) -> None:
    if (values == -1).all():
        raise InputError(
            f"{where}: all {split} labels are -1, which marks images without a label; "
            f"leave the {split} split out, and Winnow holds one out of the training images"
        )


def _cause(low: int, high: int, num_classes: int, split: str, has_names: bool) -> str:
    if low == 1 and high == num_classes and split == "train":
        return f"; the labels start at 1: {REMAP}"
    if low == 1 and high == num_classes:
        return "; these labels start at 1, those of train at 0: number them alike in all splits"
    if low < 0:
        return f"; negative labels usually mark images without one, or numbers that start below 0: {REMAP}"
    if has_names:
        return "; every class needs a name"
    return "; a class needs training images"


def _remapped(
    numbers: Mapping[str, np.ndarray], used: np.ndarray, class_names: Sequence[str] | None, where: str
) -> tuple[tuple[str, ...], dict[str, np.ndarray]]:
    """Number the labels that occur from 0. A class is named by the class name that its label indexes, else by its label."""
    named_from = list(class_names or ())
    if named_from and int(used[0]) == 1 and int(used[-1]) == len(named_from):
        names = tuple(named_from[k - 1] for k in used.tolist())
    elif named_from and int(used[0]) >= 0 and int(used[-1]) < len(named_from):
        names = tuple(named_from[k] for k in used.tolist())
    elif named_from:
        raise InputError(
            f"{where}: {len(named_from)} class names, but train labels from {used[0]} to {used[-1]}: which name is which "
            "class cannot be known"
        )
    else:
        names = tuple(map(str, used.tolist()))
    for split, values in numbers.items():
        unknown = np.setdiff1d(values, used)
        if len(unknown):
            raise InputError(
                f"{where}: {split} has {len(unknown)} labels that train has not: {named([str(k) for k in unknown])}; "
                "a class needs training images"
            )
    return names, {split: np.searchsorted(used, values).astype(np.int64) for split, values in numbers.items()}


def _refuse_empty(names: Sequence[str], train: np.ndarray, where: str, advice: str) -> None:
    used = set(np.unique(train).tolist())
    empty = [name for k, name in enumerate(names) if k not in used]
    if empty:
        raise InputError(
            f"{where}: no training image of {len(empty)} of {len(names)} classes: {named(empty, 5)}; add some, or {advice}"
        )
