"""Chooses the part of a long search that figures show, since browsers can handle a thousand trials but not ten thousand.

Tables always contain all trials.
"""

from __future__ import annotations

from collections.abc import Collection

MAX_TRIALS = 1000
"""Largest number of trials in slices, parallel coordinates and cost figures."""
MAX_FITTED = 500
"""Largest number of trials to which fANOVA is fitted: more of them take longer and change little."""
MAX_CURVES = 300
"""Largest number of learning curves in a figure."""
MAX_EPOCHS = 3000
"""Largest number of dots in the figures of progress."""


def drawn(num: int, most: int, always: Collection[int] = ()) -> list[int]:
    """Choose the positions of the items that a figure shows.

    Args:
        num: Number of items.
        most: Number of items up to which all are chosen.
        always: Positions that are chosen in any case.

    Returns:
        All positions if there are at most `most`; otherwise `always` and every k-th position, ascending.
    """
    if num <= most:
        return list(range(num))
    remaining = max(1, most - len(always))
    return sorted({*always, *range(0, num, -(-num // remaining))})


def best_positions(values: list[float], maximize: bool, num: int) -> list[int]:
    """Return the positions of the best values, from best to worst.

    Args:
        values: The values.
        maximize: Whether high values are good.
        num: Number of positions, at most.
    """
    return sorted(range(len(values)), key=lambda i: -values[i] if maximize else values[i])[:num]


def note(num_drawn: int, num: int, what: str) -> str:
    """Return a sentence for a caption that says which items are drawn.

    Args:
        num_drawn: Number of items that are drawn.
        num: Number of all items.
        what: Items that are drawn in any case, such as `the 50 best trials`.

    Returns:
        The sentence, with a leading space; empty if all items are drawn.
    """
    return f" Shown are {num_drawn:,} of {num:,}: {what} and evenly spaced others." if num_drawn < num else ""
