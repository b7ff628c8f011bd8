"""One training on several devices: every batch shared out among as many processes (ranks), gradients averaged.

Rank 0 evaluates, decides, checkpoints and reports, as when it trains alone; the others train their part of the epochs that it tells
them to, and answer nothing. How the processes come about and talk is not known here (`search/ray_backend/rank_groups.py`). The batch is that of the
config, whatever the number of ranks. Batch norm takes the statistics of a rank's part, as `DistributedDataParallel` does by default,
and keeps the running ones of rank 0; without batch norm and dropout the updates are those of one device up to rounding. A
checkpoint holds nothing of the ranks, so a training may go on with another number of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from winnow.search.training.errors import RankLost
from winnow.spaces.schema import Config


@dataclass(frozen=True)
class Rank:
    """The place of this process among those that train one network."""

    index: int = 0
    count: int = 1

    def parallel(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model as it is to be called in training: gradients are then the mean over the ranks."""
        if self.count == 1:
            return model
        # Looking for unused parameters also keeps the buckets of the first step for good, so that a resumed training adds up
        # in the same order as one that was not interrupted.
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

    def shares(self, num_images: int, least: int) -> bool:
        """Whether a batch is shared out; one with fewer than `least` images for each rank is trained whole by every rank."""
        return self.count > 1 and num_images // self.count >= least

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over all ranks, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


@dataclass(frozen=True)
class Task:
    """What a rank needs for one training beside the images."""

    config: Config
    split_seed: int
    use: Literal["search", "retrain"]
    seed: int
    checkpoint: dict[str, Any] | None
    micro_batches: int


class Team:
    """Rank 0's hold on the others. `tell` takes to all of them a training that begins, or the `lr_scale` of an epoch."""

    def __init__(self, rank: Rank, device: torch.device, tell: Callable[[Task | float], None]) -> None:
        self.rank = rank
        self.device = device
        self.broken = False
        """After an error amid an epoch: the others may wait for rank 0 for ever."""
        self._tell = tell

    def begin(self, task: Task) -> None:
        """A new training on every rank; the one of before, if it has not ended, is dropped."""
        self._tell(task)

    def epoch(self, lr_scale: float) -> None:
        """Let every rank train an epoch; rank 0 does its own part next. `lr_scale`: what rank 0 decided on the plateau."""
        self._tell(lr_scale)

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """What all ranks do together."""
        try:
            with contact(self.rank):
                yield
        except BaseException:
            self.broken = True
            raise


@contextmanager
def contact(rank: Rank) -> Iterator[None]:
    """RankLost where the others do not answer: the cause is theirs, and they tell it, or are dead."""
    try:
        yield
    except RuntimeError as error:
        # gloo has no class of its own.
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise RankLost(f"rank {rank.index} of {rank.count} lost contact to the others: {error}") from error
        raise
