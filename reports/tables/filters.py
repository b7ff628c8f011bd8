"""Filters and sorts rows. A condition is parsed and evaluated by comparison, never executed as code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from winnow.reports import rows as plain
from winnow.reports.statuses import is_ranked
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.problems import nearest

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]

GRAMMAR = "comparisons (==, !=, <, <=, >, >=, in, not in) of columns and values, joined by and, or, not"
_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|(?<![\w.])[A-Za-z_][\w.]*""")
_WORDS = {"and": "and", "or": "or", "not": "not", "in": "in", "is": "is"}
_CONSTANTS = {"none": "None", "null": "None", "true": "True", "false": "False"}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda value, options: value in options,
    ast.NotIn: lambda value, options: value not in options,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}


def select(table: pa.Table, condition: str | None, order: str | None) -> list[Row]:
    """Filter and sort the rows of `trials`. In an order by a cost, trials that failed or have no objective come last.

    Args:
        table: The table.
        condition: A condition as for `where`; None keeps all rows.
        order: A column as for `sort`; None keeps the order.
    """
    rows = plain.rows(table)
    if condition is not None:
        rows = where(rows, table.column_names, condition)
    if order is None:
        return rows
    from winnow.spaces.schema.limits import LIMITED

    rows = sort(rows, table.column_names, order)
    is_cost = order.removeprefix("-") in LIMITED.values()
    return sorted(rows, key=lambda row: not is_ranked(row)) if is_cost else rows


def named_columns(table: pa.Table, condition: str | None, order: str | None) -> list[str]:
    """Return the columns that a condition and an order name, each once.

    Args:
        table: The table.
        condition: A condition as for `where`, or None.
        order: A column as for `sort`, or None.
    """
    names = [] if order is None else [order.removeprefix("-")]
    if condition is not None:
        names += _with_plain_names(condition, table.column_names)[1].values()
    return list(dict.fromkeys(names))


def where(rows: Iterable[Row], columns: Sequence[str], condition: str) -> list[Row]:
    """Return the rows for which a condition holds.

    Args:
        rows: The rows.
        columns: Names of all columns.
        condition: The condition, such as `optimizer.name == 'sgd' and optimizer.lr > 0.01`. A comparison with a null is false,
            except `== null` and `!= null`.

    Raises:
        InputError: The condition cannot be parsed, names an unknown column, or compares text with numbers.
    """
    text, names = _with_plain_names(condition, columns)
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"--where {condition!r}: cannot be parsed; a condition consists of {GRAMMAR}") from error
    try:
        return [row for row in rows if _holds(tree, row, names)]
    except _Refused as error:
        raise InputError(f"--where {condition!r}: {error}; a condition consists of {GRAMMAR}") from error
    except TypeError as error:
        raise InputError(f"--where {condition!r}: text and numbers cannot be compared ({error})") from error


def sort(rows: Iterable[Row], columns: Sequence[str], column: str) -> list[Row]:
    """Sort rows by a column, descending if its name has a leading minus; nulls come last.

    Args:
        rows: The rows.
        columns: Names of all columns.
        column: Name of the column to sort by, with a leading `-` for descending order.

    Raises:
        InputError: There is no such column.
    """
    name = column.removeprefix("-")
    _check_column(name, columns, "--sort")
    rows = list(rows)
    known = [row for row in rows if row[name] is not None]
    unknown = [row for row in rows if row[name] is None]
    return [*sorted(known, key=lambda row: row[name], reverse=column != name), *unknown]


class _Refused(Exception):
    """Raised for an expression that is not part of the grammar."""


def _with_plain_names(condition: str, columns: Sequence[str]) -> tuple[str, dict[str, str]]:
    """Replace each column, whose name may contain dots and numbers, by a Python name.

    Returns:
        The new condition, and the columns by their Python names.
    """
    names: dict[str, str] = {}

    def plain(match: re.Match[str]) -> str:
        token = match.group()
        if token[0] in "'\"":
            return token
        if token in _WORDS:
            return token
        if token.lower() in _CONSTANTS:
            return _CONSTANTS[token.lower()]
        column = token.strip("`")
        _check_column(column, columns, "--where")
        names[f"column_{len(names)}"] = column
        return f"column_{len(names) - 1}"

    return _TOKEN.sub(plain, condition), names


def _check_column(name: str, columns: Sequence[str], option: str) -> None:
    if name not in columns:
        hint = _of_same_words(name, columns) or nearest(name, columns) or f"; the columns are {', '.join(columns)}"
        quotes = " (a text value needs quotes)" if option == "--where" else ""
        raise InputError(f"{option}: no column {name!r}{hint}{quotes}")


def _of_same_words(name: str, columns: Sequence[str]) -> str:
    """Return a hint about the columns whose names end with a name, such as `validation_accuracy` for `accuracy`."""
    meant = [column for column in columns if re.search(rf"(?:^|[._]){re.escape(name)}$", column)]
    meant.sort(key=lambda column: (column.count("_"), not column.startswith("validation")))
    return f"; did you mean {' or '.join(meant[:3])}?" if meant else ""


def _holds(node: ast.expr, row: Row, names: dict[str, str]) -> bool:
    if isinstance(node, ast.BoolOp):
        combine = all if isinstance(node.op, ast.And) else any
        return combine(_holds(value, row, names) for value in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return not _holds(node.operand, row, names)
    if isinstance(node, ast.Compare):
        values = [_value(part, row, names) for part in (node.left, *node.comparators)]
        pairs = zip(node.ops, values, values[1:], strict=False)
        return all(_compare(op, left, right) for op, left, right in pairs)
    value = _value(node, row, names)
    if not isinstance(value, bool | None):
        raise _Refused(f"{value!r} is neither true nor false")
    return bool(value)


def _compare(op: ast.cmpop, left: Any, right: Any) -> bool:
    equality = isinstance(op, ast.Eq | ast.NotEq | ast.Is | ast.IsNot)
    if left is None or (right is None and not equality):
        return equality and _COMPARISONS[type(op)](left, right) if right is None else False
    return _COMPARISONS[type(op)](left, right)


def _value(node: ast.expr, row: Row, names: dict[str, str]) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | bool | None):
        return node.value
    if isinstance(node, ast.Name) and node.id in names:
        return row[names[node.id]]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, row, names)
        if isinstance(value, int | float):
            return -value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item, row, names) for item in node.elts]
    raise _Refused(f"{ast.unparse(node)} is neither a column nor a value")
