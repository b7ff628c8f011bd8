"""Mixing of training images within a batch: mixup and CutMix, on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from winnow.spaces import schema


class Mixture(NamedTuple):
    """A batch after mixing. Its loss is share * loss(labels) + (1 - share) * loss(other_labels)."""

    images: torch.Tensor
    """float32 [n, C, H, W]."""
    other_labels: torch.Tensor
    """int64 [n]: the labels of the images that were mixed in."""
    share: float
    """Weight of the images' own labels, in [0, 1]."""


class Mixer:
    """Mixes the batches of one epoch. All draws come from one seed, on the CPU, so that they are the same on all ranks and devices.

    Args:
        settings: The `mix` section of a config.
        seed: Seed of the epoch.
    """

    def __init__(self, settings: schema.Mixing, seed: int) -> None:
        self._settings = settings
        self._random = np.random.default_rng(seed)

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Mixture:
        """Mix each image of a batch with another one.

        Args:
            images: float32 [n, C, H, W].
            labels: int64 [n].
        """
        if self._random.random() >= self._settings.p:
            return Mixture(images, labels, 1.0)
        share = float(self._random.beta(self._settings.alpha, self._settings.alpha))
        distance = int(self._random.integers(1, len(images))) if len(images) > 1 else 0
        mixed, share = MIXINGS[self._settings.name](images, images.roll(distance, 0), share, self._random)
        return Mixture(mixed, labels.roll(distance, 0), share)


def _mixup(images: torch.Tensor, others: torch.Tensor, share: float, random: Any) -> tuple[torch.Tensor, float]:
    return others.lerp(images, share), share


def _cutmix(images: torch.Tensor, others: torch.Tensor, share: float, random: Any) -> tuple[torch.Tensor, float]:
    """Replace a rectangle of each image by that of another one.

    The rectangle has the proportions of the image. Its centre is anywhere in the image, so part of it may be outside, as in the paper.
    """
    height, width = images.shape[2:]
    side = (1 - share) ** 0.5
    rows, columns = (_interval(length, side, random) for length in (height, width))
    mixed = images.clone()
    mixed[:, :, rows, columns] = others[:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / (height * width)


def _interval(length: int, side: float, random: Any) -> slice:
    size, centre = int(length * side), int(random.integers(length))
    start = centre - size // 2
    return slice(max(0, start), min(length, start + size))


MIXINGS: dict[str, Callable[..., tuple[torch.Tensor, float]]] = {"mixup": _mixup, "cutmix": _cutmix}
