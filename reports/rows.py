"""Converts Arrow tables to plain Python.

The result equals that of `to_pylist`. But `to_pylist` imports pandas for columns of times, which takes longer than the rest of
`winnow show`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime.fromtimestamp(0, UTC)


def rows(table: pa.Table) -> list[dict[str, Any]]:
    """Convert a table to one dict per row."""
    columns = lists(table)
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def lists(table: pa.Table) -> dict[str, list[Any]]:
    """Convert a table to one list per column. For long tables this takes a tenth of the time and memory of `rows`."""
    return {name: _values(table.column(name)) for name in table.column_names}


def lazy_rows(names: Sequence[str], count: int, read: Callable[[str], pa.ChunkedArray]) -> list[dict[str, Any]]:
    """Make the rows of a table whose columns are read at their first use: most views of a long table need few columns.

    Args:
        names: Names of the columns.
        count: Number of rows.
        read: Returns the column of a name; it is called once for each.

    Returns:
        Rows that read like dicts.
    """
    columns = _Columns(names, read)
    return cast(list[dict[str, Any]], [_LazyRow(columns, place) for place in range(count)])


class _Columns(dict[str, list[Any]]):
    """Columns as lists by name, made at their first use."""

    def __init__(self, names: Sequence[str], read: Callable[[str], pa.ChunkedArray]) -> None:
        super().__init__()
        self.names, self.read = names, read

    def __missing__(self, name: str) -> list[Any]:
        if name not in self.names:
            raise KeyError(name)
        self[name] = values = _values(self.read(name))
        return values


class _LazyRow(Mapping[str, Any]):
    """One row of `_Columns`."""

    __slots__ = ("columns", "place")

    def __init__(self, columns: _Columns, place: int) -> None:
        self.columns, self.place = columns, place

    def __getitem__(self, name: str) -> Any:
        return self.columns[name][self.place]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns.names)

    def __len__(self) -> int:
        return len(self.columns.names)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}


def _values(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa

    if column.type != pa.timestamp("us", tz="UTC"):
        return list(column.to_pylist())
    return [None if t is None else _EPOCH + timedelta(microseconds=t) for t in column.cast("int64").to_pylist()]
