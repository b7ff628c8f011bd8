"""Measurements of Winnow; the README beside this file lists them with question, command, duration and result file."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Return the median of some values and, in brackets, the lowest and the highest.

    Args:
        values: The values, at least one.
        form: How a number is written, as in an f-string. Default: one digit after the point.
    """
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def points(gains: Sequence[float]) -> str:
    """Return the mean of some differences in points and, of two or more, its 95 % interval in brackets.

    Args:
        gains: The differences, at least one.
    """
    middle = statistics.mean(gains)
    if len(gains) < 2:
        return f"{middle:+.1f}"
    half = half_width(gains)
    return f"{middle:+.1f} ({middle - half:+.1f} to {middle + half:+.1f})"


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean, by Student's t; NaN for a single value.

    Args:
        values: The values, such as the differences on some tasks.
    """
    from winnow.reports.tables.intervals import t_975

    return t_975(len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
