"""The space of the comparison: `cifar10-cnn` over at most 8 epochs."""

from __future__ import annotations

from spaces import catalog
from spaces.space import Space

OVERRIDES = ("epochs=8",)


def load_space(overrides: tuple[str, ...] = ()) -> Space:
    return catalog.load("cifar10-cnn", (*OVERRIDES, *overrides))
