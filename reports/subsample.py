"""Figures of a long search show a part of it: a browser draws a thousand trials well, ten thousand not. Tables always hold all."""

from __future__ import annotations

from collections.abc import Collection

MAX_TRIALS = 1000
"""Drawn as dots or lines across the parameters."""
MAX_FITTED = 500
"""Trials that fANOVA is fitted to: its forests take time with their number, and more of them change little."""
MAX_CURVES = 300
MAX_EPOCHS = 3000
"""Dots in the figures of progress."""


def drawn(num: int, most: int, always: Collection[int] = ()) -> list[int]:
    """Positions out of `range(num)`: all where there are at most `most`; else `always` and every k-th, in order."""
    if num <= most:
        return list(range(num))
    room = max(1, most - len(always))
    return sorted({*always, *range(0, num, -(-num // room))})


def best_positions(values: list[float], maximize: bool, num: int) -> list[int]:
    """Where the `num` best values are."""
    return sorted(range(len(values)), key=lambda i: -values[i] if maximize else values[i])[:num]


def note(num_drawn: int, num: int, what: str) -> str:
    """What to add to a caption; nothing where all are drawn."""
    return f" Drawn are {num_drawn:,} of {num:,}: {what} and evenly spaced others." if num_drawn < num else ""
