"""The space of the comparison: `cifar10-cnn` over at most 8 epochs."""

from __future__ import annotations

from winnow.spaces import catalog
from winnow.spaces.space import Space

OVERRIDES = ("epochs=8",)


def load_space(overrides: tuple[str, ...] = ()) -> Space:
    return catalog.load("cifar10-cnn", (*OVERRIDES, *overrides))
