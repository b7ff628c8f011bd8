"""Reads a column that says which split each row of a table is of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from winnow.search.data.foreign import shown
from winnow.search.data.listing import split_of
from winnow.spaces.errors import InputError

SPLIT_COLUMN = "split"
ALIKE = ("split", "splits", "subset", "set", "partition", "part", "phase", "fold", "usage", "stage")
"""What people call such a column, in lower case. Only `split` is read, but the others are not passed over."""


def rows_by_split(values: Sequence[str], where: str) -> dict[str, list[int]]:
    """Return {split: row numbers}. Raises InputError, which names the first row without a split.

    Args:
        values: The column `split`.
        where: The table as the user knows it.
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
        raise InputError(f"{where}: column `{SPLIT_COLUMN}`: no row is of the split train")
    return rows


def refuse_alike(names: Iterable[str], values: Callable[[str], Iterable[str]], where: str) -> None:
    """Raise InputError if a column of another name divides the rows into splits: its test images would be trained on.

    Args:
        names: The columns of text that are nothing else, such as labels.
        values: Gives the values of a column.
        where: The table as the user knows it.
    """
    for name in names:
        if name == SPLIT_COLUMN or name.strip().lower() not in ALIKE:
            continue
        splits = {split_of(value) for value in values(name)}
        if len(splits) > 1 and None not in splits:
            raise InputError(
                f"{where}: column `{shown(name)}` seems to say which split a row is of; rename it to `{SPLIT_COLUMN}` to use it, or "
                "leave it out"
            )
