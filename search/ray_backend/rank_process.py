"""The code that runs in each rank of a group. It serves one training after another for as long as the group exists.

A rank receives its messages from the pool in `rank_groups.py`. Rank 0 runs the requested training and replies with the values that
it yields; the other ranks train their part of the epochs that rank 0 announces.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from winnow.search.ray_backend.shared_data import Training
from winnow.search.training.errors import Failed, RankLost, failure, release_memory

if TYPE_CHECKING:
    import torch

    from winnow.search.training.ranks import Rank

NEXT, DONE = "next", "done"
"""Message to rank 0 that asks for the next value of a training, and its reply after the last value."""


@dataclass(frozen=True)
class TrainRequest:
    """A request to rank 0: a training, its images, and its further arguments.

    Attributes:
        training: The training; it runs on rank 0.
        data: A reference to the images in Ray's object store.
        arguments: Further arguments of `training`.
        prints: Path or URI of the file for what the model prints; None if it is not kept.
    """

    training: Training
    data: Any
    arguments: dict[str, Any]
    prints: str | None = None


def serve(config: dict[str, Any]) -> None:
    """Serve requests in a rank for as long as the group exists. Ray Train calls this in every rank."""
    import torch
    from ray import train
    from ray.train.torch import get_device

    from winnow.search.ray_backend.lean_imports import prepare_imports
    from winnow.search.training.ranks import Rank

    prepare_imports()
    torch.set_num_threads(config["threads"])
    context = train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size())
    device = get_device() if config["device"] == "cuda" else torch.device(config["device"])
    channel = RankChannel(config["pool"], config["group"], rank.index)
    if rank.index == 0:
        channel.call("arrive", ray.util.get_current_placement_group())
        _lead(channel, rank, device)
    else:
        _follow(channel, rank, device)


@dataclass(frozen=True)
class RankChannel:
    """Connects a rank to the pool."""

    pool: Any
    group: str
    index: int

    def call(self, method: str, *arguments: Any) -> Any:
        return ray.get(getattr(self.pool, method).remote(self.group, *arguments))

    def next_message(self) -> Any:
        """Wait for the next message to this rank."""
        return self.call("next_message", self.index)


def _lead(channel: RankChannel, rank: Rank, device: torch.device) -> None:
    """Serve requests on rank 0, one after another.

    A training is abandoned if a new request arrives instead of the message to continue.

    Args:
        channel: Connection to the pool.
        rank: This rank, with index 0.
        device: Device of this rank.
    """
    from winnow.search.training.prints import printing_to
    from winnow.search.training.process_state import contained
    from winnow.search.training.ranks import Task, Team

    message = channel.next_message()
    while True:
        order: TrainRequest = message

        def tell(what: Task | float, images: Any = order.data) -> None:
            packed = (images, ray.put(what)) if isinstance(what, Task) else what
            for index in range(1, rank.count):
                channel.call("send", index, packed)

        team = Team(rank, device, tell)
        try:
            with (
                contained(),
                printing_to(order.prints),
                closing(order.training(ray.get(order.data), team, **order.arguments)) as values,
            ):
                for value in values:
                    channel.call("reply", (value,))
                    message = channel.next_message()
                    if message != NEXT:
                        break
                else:
                    channel.call("reply", DONE)
                    message = channel.next_message()
            continue
        except RankLost:
            raise
        except (Exception, SystemExit) as error:  # a model that calls sys.exit() would take the group along
            failed = Failed(*failure(error))
        # The frames of the exception held the tensors of the training. Only here, after its end, can their memory be released.
        release_memory()
        channel.call("fail" if team.broken else "reply", failed)
        message = channel.next_message()


def _follow(channel: RankChannel, rank: Rank, device: torch.device) -> None:
    """Train the part of this rank in the epochs that rank 0 announces. Runs on every other rank.

    The state of the process is restored when the next training begins, since nobody tells this rank that one has ended.

    Args:
        channel: Connection to the pool.
        rank: This rank, with an index of at least 1.
        device: Device of this rank.
    """
    from winnow.search.training import loop
    from winnow.search.training.device_data import DeviceData
    from winnow.search.training.process_state import contained
    from winnow.search.training.ranks import Task, contact

    training: loop.TrainingState | None = None
    try:
        with ExitStack() as restored:
            while True:
                message = channel.next_message()
                with contact(rank):
                    if isinstance(message, float):
                        assert training is not None  # a training begins before its first epoch
                        training.follow_epoch(lr_scale=message)
                        continue
                    training = None
                    restored.close()
                    restored.enter_context(contained())
                    images, task = ray.get(list(message))
                    assert isinstance(task, Task)
                    on_device = DeviceData.build(images, task.config.data, device, task.split_seed, task.use)
                    training = loop.TrainingState.start(
                        task.config, on_device, device, task.seed, rank, task.micro_batches
                    )
                    if task.checkpoint is not None:
                        training.restore(task.checkpoint)
    except RankLost:
        raise
    except (Exception, SystemExit) as error:
        status, text = failure(error)
        channel.call("fail", Failed(status, f"rank {rank.index}: {text}"))
        raise
