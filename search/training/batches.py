"""Divides the batches of an epoch among ranks and into micro-batches, and sums up their losses and correct predictions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import nn

from winnow.search.training.mixing import Mixer, Mixture
from winnow.search.training.ranks import Rank
from winnow.spaces.errors import InputError

BATCH_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LazyBatchNorm1d,
    nn.LazyBatchNorm2d,
    nn.LazyBatchNorm3d,
    nn.SyncBatchNorm,
)


class MicroBatch(NamedTuple):
    """Images that go through the network together."""

    images: torch.Tensor
    """float32 [n, C, H, W]."""
    labels: torch.Tensor
    """int64 [n]."""
    weight: float
    """Factor of its mean loss. The mean gradient over the ranks is then that of the mean loss over the batch."""
    counts: bool
    """Whether it counts in the figures of the epoch. If every rank trains the whole batch, only that of rank 0 does."""
    other_labels: torch.Tensor | None = None
    """int64 [n]: the labels of the images that were mixed in; None if nothing was."""
    shares: torch.Tensor | None = None
    """float32 [n]: weight of each of `labels` in the loss; the rest is that of `other_labels`. None if nothing was mixed in."""


@dataclass(frozen=True)
class Batches:
    """The batches of every epoch of one training, on one rank.

    A batch norm cannot normalize a single image, so a network with batch norm gets no micro-batch of one image. A last
    batch of one image is skipped.
    """

    num_images: int
    batch_size: int
    has_batch_norm: bool
    micro_batches: int
    rank: Rank

    @property
    def least(self) -> int:
        """Images in the smallest micro-batch that the network accepts."""
        return 2 if self.has_batch_norm else 1

    @property
    def skips_single(self) -> bool:
        return self.batch_size > 1 and self.has_batch_norm

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch.

        Raises:
            InputError: There is a single training image, and the network has batch norm.
        """
        skipped = self.skips_single and self.num_images % self.batch_size == 1
        steps = math.ceil(self.num_images / self.batch_size) - skipped
        if not steps:
            raise InputError("data: a single training image cannot be batch-normalised; use more images")
        return steps

    def of(self, images: torch.Tensor, labels: torch.Tensor, mixer: Mixer | None = None) -> Iterator[list[MicroBatch]]:
        """Divide images into batches, and yield for each the micro-batches that this rank trains.

        Args:
            images: float32 [k, C, H, W].
            labels: int64 [k].
            mixer: Mixes the images of each whole batch. Default: they are not mixed.
        """
        for batch, truth in zip(images.split(self.batch_size), labels.split(self.batch_size), strict=True):
            if not (self.skips_single and len(batch) == 1):
                mixture = mixer(batch, truth) if mixer else Mixture(batch, None, None)
                yield self._micro_batches(mixture, truth)

    def _micro_batches(self, mixture: Mixture, truth: torch.Tensor) -> list[MicroBatch]:
        num_images, num_ranks = len(mixture.images), 1
        # Images, labels and, of a mixed batch, other labels and shares.
        wholes = [mixture.images, truth, *(whole for whole in mixture[1:] if whole is not None)]
        if self.rank.shares(num_images, self.least):
            num_ranks = self.rank.count
            wholes = [whole.tensor_split(num_ranks)[self.rank.index] for whole in wholes]
        # The number is the same on every rank, although the parts of the ranks may differ by one image.
        num = min(self.micro_batches, num_images // num_ranks // self.least) or 1
        counts = num_ranks == self.rank.count or self.rank.index == 0
        parts = zip(*(whole.tensor_split(num) for whole in wholes), strict=True)
        return [
            MicroBatch(images, labels, num_ranks * len(images) / num_images, counts, *mixed)
            for images, labels, *mixed in parts
        ]


@dataclass
class EpochSums:
    """Losses and correct predictions of one epoch, kept on the device. Only `all_finite` and `figures` wait for it.

    Of a mixed image, each of the two labels counts by its share.
    """

    rank: Rank
    device: torch.device
    _losses: list[torch.Tensor] = field(default_factory=list)
    _sizes: list[int] = field(default_factory=list)
    _predicted: list[torch.Tensor] = field(default_factory=list)
    _true: list[torch.Tensor] = field(default_factory=list)
    _num_right: list[torch.Tensor] = field(default_factory=list)

    def add(self, part: MicroBatch, loss: torch.Tensor, logits: torch.Tensor) -> None:
        """Add the result of one micro-batch.

        Args:
            part: The micro-batch.
            loss: Its mean loss, a scalar on the device.
            logits: The outputs of the network, [n, K] on the device.
        """
        self._losses.append(loss.detach())
        self._sizes.append(len(part.images) if part.counts else 0)
        if part.counts and part.other_labels is not None and part.shares is not None:
            predicted = logits.detach().argmax(1)
            right = torch.where(predicted == part.labels, part.shares, 0) + torch.where(
                predicted == part.other_labels, 1 - part.shares, 0
            )
            self._num_right.append(right.sum())
        elif part.counts:
            self._predicted.append(logits.detach().argmax(1))
            self._true.append(part.labels)

    def all_finite(self) -> bool:
        """End a chunk of batches, and return whether the last loss is finite on every rank."""
        if self._predicted:
            self._num_right.append((torch.cat(self._predicted) == torch.cat(self._true)).sum().float())
            self._predicted, self._true = [], []
        return math.isfinite(self.rank.sum(self._losses[-1].clone()).item())

    def figures(self) -> tuple[torch.Tensor, float, float]:
        """Return the losses of the epoch, their mean and the accuracy, over all ranks.

        The losses are float32 [micro-batches] on the CPU. Mean and accuracy are NaN if a loss is not finite.
        """
        sizes = torch.tensor(self._sizes, dtype=torch.float64)
        losses = torch.stack(self._losses).float().cpu()
        none_right = torch.zeros((), device=self.device)
        num_right = torch.stack(self._num_right).sum() if self._num_right else none_right
        if self.rank.count > 1:
            both = torch.stack([losses.double() * sizes, sizes]).to(self.device)  # NCCL sums on the GPU only
            total, sizes = self.rank.sum(both).cpu()
            losses = (total / sizes).float()
            self.rank.sum(num_right)
        if not bool(losses.isfinite().all()):
            return losses, math.nan, math.nan
        mean_loss = float((losses.double() * sizes).sum() / sizes.sum())
        return losses, mean_loss, float(num_right) / int(sizes.sum())


def has_batch_norm(model: nn.Module) -> bool:
    """Return whether any layer of the network is a batch norm."""
    return any(isinstance(module, BATCH_NORMS) for module in model.modules())
