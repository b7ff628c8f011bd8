"""Reads a column that says to which split each row of a table belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from winnow.search.data.foreign import shown
from winnow.search.data.listing import SPLIT_COLUMN, split_of
from winnow.spaces.errors import InputError

ALIKE = ("splits", "subset", "set", "dataset", "partition", "part", "phase", "fold", "usage", "stage", "ml_use")
"""Other common names of such a column, in lower case. It is not read, but it is reported instead of ignored."""
FLAGS = ({"true", "false"}, {"1", "0"}, {"yes", "no"})
"""The values of a column such as `is_valid`."""


def rows_by_split(values: Sequence[str], where: str) -> dict[str, list[int]]:
    """Return {split: row numbers}.

    Args:
        values: The column `split`.
        where: The table, as it is named in errors.

    Raises:
        InputError: A row has no split, or no row belongs to `train`.
    """
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        split = split_of(value)
        if split is None:
            raise InputError(
                f"{where}, row {row}: column `{SPLIT_COLUMN}` is {shown(value)!r}; it must be train, validation or test in every row"
            )
        rows.setdefault(split, []).append(row)
    if "train" not in rows:
        raise InputError(f"{where}: column `{SPLIT_COLUMN}`: no row belongs to the split train")
    return rows


def refuse_contradiction(values: Iterable[str], split: str, where: str) -> None:
    """Raise InputError if a column `split` contradicts the file that contains it.

    Args:
        values: The column `split`. Values that name no split are ignored.
        split: Split according to the file: train, validation or test.
        where: The table, as it is named in errors.
    """
    for row, value in enumerate(values):
        if split_of(value) not in (None, split):
            raise InputError(
                f"{where}, row {row}: column `{SPLIT_COLUMN}` is {shown(value)!r}, but the file is the {split} split by its name; "
                "leave the column out, or put all rows into one file and name it in data.path"
            )


def refuse_alike(names: Iterable[str], values: Callable[[str], Iterable[str]], where: str) -> None:
    """Raise InputError if a column of another name seems to divide the rows into splits, since test images would be trained on.

    Args:
        names: The columns of texts, booleans or integers that have no other use, such as labels.
        values: Returns the values of a column; only as many are read as are needed.
        where: The table, as it is named in errors.
    """
    for name in names:
        if _is_flag(name) and {value.lower() for value in values(name)} in FLAGS:
            advice = f"write a column `{SPLIT_COLUMN}` of train, validation and test instead"
        elif _divides(name, values(name)):
            advice = f"rename it to `{SPLIT_COLUMN}` to use it"
        else:
            continue
        raise InputError(
            f"{where}: column `{shown(name)}` seems to name the split of each row; {advice}, or leave it out"
        )


def _is_flag(name: str) -> bool:
    return split_of(name.lower().removeprefix("is_")) is not None


def _divides(name: str, values: Iterable[str]) -> bool:
    """Return whether values name several splits: all of them, or at least some if the column has one of the names `ALIKE`."""
    if name.lower() in ALIKE:
        splits = set(map(split_of, values))
        return "train" in splits and len(splits) > 1
    known = set()
    for value in values:
        split = split_of(value)
        if split is None:
            return False
        known.add(split)
    return len(known) > 1
