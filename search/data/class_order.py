"""Puts classes into the order of their names, so that splits do not depend on how a data set numbers them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

WHOLE = re.compile(r"-?[0-9]{1,4000}")
"""A whole number; Python converts no more than 4,300 digits."""


def by_number_or_name(names: Sequence[str]) -> list[str]:
    """Sort names as text, but as numbers if all are numbers: 2 comes before 10."""
    if all(WHOLE.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def ranked(labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Replace class numbers by the positions of their names in sorted order.

    Args:
        labels: int64 [N], indices into `names`.
        names: All class names, each once.

    Returns:
        int64 [N]; the labels themselves if the classes are in order.
    """
    position = {name: k for k, name in enumerate(by_number_or_name(names))}
    return np.array([position[name] for name in names], dtype=np.int64)[labels]
