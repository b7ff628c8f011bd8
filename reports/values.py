"""Reads numbers and times of records, which somebody else may have written, and prepares them for JSON."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

LAST_SECOND = 253_402_300_799.0
"""The last second of the year 9999 in Unix seconds, after which there is no `datetime`."""


def finite(value: Any) -> float | None:
    """Return `value` as a float; None if it is not a number or not finite."""
    if type(value) is float:  # the usual case, checked first because this is called millions of times
        return value if math.isfinite(value) else None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max:
        return float(value)
    return None


def time_of(seconds: Any) -> datetime | None:
    """Convert Unix seconds to a time in UTC; None if they are not a number, or not a time from 1970 to 9999."""
    known = finite(seconds)
    return None if known is None or not 0 <= known <= LAST_SECOND else datetime.fromtimestamp(known, UTC)


def finite_or_null(value: Any) -> Any:
    """Return the value with None in place of each number that is not finite, at any depth of nesting."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    return value
