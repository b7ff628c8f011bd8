"""Reads files of one JSON object a line, as a process that was killed leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

MANY = 1000


def parsed(lines: Sequence[bytes]) -> Iterator[Any]:
    """Each line as JSON; None where it is none.

    Many lines at once, as one list: in half the time, and their objects share their keys, which is half of their memory. Pydantic's
    parser takes half the time of Python's and gives the same; few lines are read before it is imported.
    """
    loads: Callable[[bytes], Any] = json.loads
    if len(lines) > MANY:
        from pydantic_core import from_json as loads
    for start in range(0, len(lines), MANY):
        some = lines[start : start + MANY]
        try:
            found = loads(b"[" + b",".join(some) + b"]")
        except ValueError:
            found = []
        yield from found if len(found) == len(some) else map(_parsed, some)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
