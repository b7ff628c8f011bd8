"""Mixing of training images within a batch: mixup and CutMix, each image with a share of its own, on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from winnow.spaces import schema

Shares = np.ndarray[Any, np.dtype[np.float64]]


class Mixture(NamedTuple):
    """A batch after mixing. The loss of an image is share * loss(label) + (1 - share) * loss(other label)."""

    images: torch.Tensor
    """float32 [n, C, H, W]."""
    other_labels: torch.Tensor | None
    """int64 [n]: the labels of the images that were mixed in; None if nothing was."""
    shares: torch.Tensor | None
    """float32 [n]: weight of each image's own label, in [0, 1]; None if nothing was mixed in."""


class Mixer:
    """Mixes the batches of one epoch. All draws come from one seed, on the CPU, so that they are the same on all ranks and devices.

    Args:
        settings: The `mix` section of a config.
        seed: Seed of the epoch.
        per_image: Whether each image has a share of its own. If not, all images of a batch have the same, as a loss needs
            that only tells its mean.
    """

    def __init__(self, settings: schema.Mixing, seed: int, per_image: bool = True) -> None:
        self._settings = settings
        self._random = np.random.default_rng(seed)
        self._per_image = per_image

    def __call__(self, images: torch.Tensor, labels: torch.Tensor) -> Mixture:
        """Mix each image of a batch with another one.

        Args:
            images: float32 [n, C, H, W].
            labels: int64 [n].
        """
        num = len(images) if self._per_image else 1
        mixes = self._random.random(num) < self._settings.p
        shares = np.where(mixes, self._random.beta(self._settings.alpha, self._settings.alpha, num), 1.0)
        distance = int(self._random.integers(1, len(images))) if len(images) > 1 else 0
        if not mixes.any():
            return Mixture(images, None, None)
        mixed, shares = MIXINGS[self._settings.name](images, images.roll(distance, 0), shares, self._random)
        of_labels = _on_device(shares, images).expand(len(images))
        # An image that nothing was mixed into has its own label twice, so that another one cannot change its loss.
        return Mixture(mixed, torch.where(of_labels < 1, labels.roll(distance, 0), labels), of_labels)


def _mixup(images: torch.Tensor, others: torch.Tensor, shares: Shares, random: Any) -> tuple[torch.Tensor, Shares]:
    return others.lerp(images, _on_device(shares, images).view(-1, 1, 1, 1)), shares


def _cutmix(images: torch.Tensor, others: torch.Tensor, shares: Shares, random: Any) -> tuple[torch.Tensor, Shares]:
    """Replace a rectangle of each image by that of another one.

    The rectangle has the proportions of the image. Its centre is anywhere in the image, so part of it may be outside, as in the paper.
    """
    areas, insides = np.ones_like(shares), []
    for length in images.shape[2:]:
        size, centre = (length * np.sqrt(1 - shares)).astype(np.int64), random.integers(length, size=len(shares))
        start = np.maximum(0, centre - size // 2)
        stop = np.minimum(length, centre - size // 2 + size)
        areas *= (stop - start) / length
        positions = np.arange(length)
        insides.append((positions >= start[:, None]) & (positions < stop[:, None]))
    rows, columns = (torch.from_numpy(inside).to(images.device, non_blocking=True) for inside in insides)
    return torch.where(rows[:, None, :, None] & columns[:, None, None, :], others, images), 1 - areas


def _on_device(shares: Shares, images: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(shares).float().to(images.device, non_blocking=True)


MIXINGS: dict[str, Callable[..., tuple[torch.Tensor, Shares]]] = {"mixup": _mixup, "cutmix": _cutmix}
