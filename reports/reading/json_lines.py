"""Reads files with one JSON object per line, even if the process that wrote them was killed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from winnow.reports.reading.files import content_of, is_present

MANY = 1000


def read_lines(path: Path, keys: Mapping[str, Sequence[type]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read the lines of a file that are complete and have all required keys.

    Args:
        path: The file. A missing file has no lines.
        keys: Keys that every line must have, and the types that each may have. A key that may be None may also be missing.

    Returns:
        The lines in order, with all keys; and notes on lines that were left out, such as the incomplete last line of a process that
        was killed.

    Raises:
        InputError: The file cannot be read, or is not a file.
    """
    if not is_present(path):
        return [], []
    lines = content_of(path).splitlines()
    rows, damaged = [], []
    allowed = set(product(*keys.values()))
    for number, row in enumerate(parsed(lines), start=1):
        if isinstance(row, dict) and tuple([type(row.setdefault(key)) for key in keys]) in allowed:
            rows.append(row)
        elif lines[number - 1].strip():
            damaged.append(number)
    if damaged == [len(lines)]:
        return rows, [f"the last line of {path.name} is incomplete and was left out"]
    if damaged:
        listed = ", ".join(str(number) for number in damaged[:5]) + (", ..." if len(damaged) > 5 else "")
        return rows, [f"{path.name}: {len(damaged)} damaged lines were left out (line {listed})"]
    return rows, []


def parsed(lines: Sequence[bytes]) -> Iterator[Any]:
    """Parse each line as JSON, and yield None for a line that is not valid JSON.

    Many lines are parsed at once, as one list. This halves the time, and also the memory, since the objects share their keys.
    Pydantic's parser takes half the time of Python's and gives the same result. It is imported only for many lines.
    """
    loads: Callable[[bytes], Any] = json.loads
    if len(lines) > MANY:
        from pydantic_core import from_json as loads
    for start in range(0, len(lines), MANY):
        some = lines[start : start + MANY]
        try:
            values = loads(b"[" + b",".join(some) + b"]")
        except (ValueError, RecursionError):
            values = []
        yield from values if len(values) == len(some) else map(_parsed, some)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
