"""The training images of one epoch, in an order and with an augmentation that follow from the seed."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from winnow.search.seeds import Stream, derive_seed
from winnow.search.training.device_data import DeviceData
from winnow.spaces.schema import Flip


def epoch_chunks(
    data: DeviceData, batch_size: int, seed: int, epoch: int, memory_format: torch.memory_format, turn: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield chunks of training images, as `DeviceData.train_chunks` does.

    Args:
        data: The images.
        batch_size: Images per batch.
        seed: Seed of the training.
        epoch: The epoch, counted from 1.
        memory_format: Memory format of the images.
        turn: How many times the images of this epoch were read before. Default: 0.
    """
    parts = (epoch, turn) if turn else (epoch,)
    order = torch.Generator().manual_seed(derive_seed(Stream.ORDER, seed, *parts))
    draws = torch.Generator(data.train.device).manual_seed(derive_seed(Stream.AUGMENTATION, seed, *parts))
    return data.train_chunks(batch_size, order, draws, memory_format, _odd_images(data, seed, epoch))


def _odd_images(data: DeviceData, seed: int, epoch: int) -> torch.Tensor | None:
    """Return whether each training image is mirrored by a flip that alternates; None if there is no such flip.

    This is drawn once per training, and inverted in every epoch.
    """
    extra = data.settings.extra.augment if data.settings.extra else []
    if not any(isinstance(step, Flip) and step.alternate for step in [*data.settings.augment, *extra]):
        return None
    drawn = torch.Generator().manual_seed(derive_seed(Stream.AUGMENTATION, seed, 0))
    first = torch.rand(len(data.train), generator=drawn) < 0.5
    return first ^ bool(epoch % 2)
