"""One training on several devices: each batch is split among processes (ranks), and the gradients are averaged.

Rank 0 validates, decides, checkpoints and reports, as when it trains alone. The others train their part of each epoch when
rank 0 tells them to, and report nothing. `search/ray_backend/rank_groups.py` starts the processes and
carries the messages, and `rank_process.py` beside it handles them.

The batch size is that of the config, whatever the number of ranks. Batch norm uses the statistics of a rank's part, as
`DistributedDataParallel` does by default, and keeps the running statistics of rank 0. Without batch norm and dropout the
updates equal those of one device up to rounding. A checkpoint does not depend on the number of ranks, so a training may
resume with a different number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from winnow.search.training.errors import RankLost, is_out_of_memory
from winnow.spaces.schema import Config


@dataclass(frozen=True)
class Rank:
    """The index of this process among the `count` that train one network together."""

    index: int = 0
    count: int = 1

    def parallel(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model as it is called in training: it averages gradients over the ranks.

        Args:
            model: The network on its device.
            device: The device of this rank.

        Returns:
            The model itself if there is one rank.
        """
        if self.count == 1:
            return model
        # With this search for unused parameters, torch never rebuilds the buckets of the first step, so that a resumed training
        # adds up gradients in the same order as one that was not interrupted.
        ids = [device.index or 0] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=ids, find_unused_parameters=True)

    def shares(self, num_images: int, least: int) -> bool:
        """Return whether a batch is split among the ranks; else every rank trains all of it.

        Args:
            num_images: Images in the batch.
            least: Smallest number of images that each rank must get.
        """
        return self.count > 1 and num_images // self.count >= least

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values over all ranks, in place."""
        if self.count > 1:
            distributed.all_reduce(values)
        return values


@dataclass(frozen=True)
class Task:
    """The request to train one config, as sent to every rank."""

    config: Config
    split_seed: int
    use: Literal["search", "retrain"]
    seed: int
    checkpoint: dict[str, Any] | None
    micro_batches: int


class Team:
    """The other ranks, as seen by rank 0. `tell` sends all of them a new training, or the `lr_scale` of the next epoch."""

    def __init__(self, rank: Rank, device: torch.device, tell: Callable[[Task | float], None]) -> None:
        self.rank = rank
        self.device = device
        self.broken = False
        """Whether an epoch ended with an error, after which the other ranks may wait for rank 0 forever."""
        self._tell = tell

    def begin(self, task: Task) -> None:
        """Begin a training on every rank. An earlier one that has not ended is abandoned."""
        self._tell(task)

    def epoch(self, lr_scale: float) -> None:
        """Start an epoch on the other ranks; rank 0 trains its own part next. `lr_scale` is the factor of a plateau schedule."""
        self._tell(lr_scale)

    @contextmanager
    def supervised(self) -> Iterator[None]:
        """Guard work that all ranks do together: after an error the team is `broken`.

        Raises:
            RankLost: Another rank does not respond.
        """
        try:
            with contact(self.rank):
                yield
        except BaseException:
            self.broken = True
            raise


@contextmanager
def contact(rank: Rank) -> Iterator[None]:
    """Turn an error of communication into RankLost. The cause is in another rank, which reports it unless it is dead."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):  # NCCL has no class of its own for it, and smaller pieces of a batch need less
            raise
        # gloo has no class of its own.
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            raise RankLost(f"rank {rank.index} of {rank.count} lost contact with the others: {error}") from error
        raise
