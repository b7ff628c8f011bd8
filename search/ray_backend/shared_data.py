"""The data that all trainings of a search share: images, settings, and the groups of ranks that train on them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.spaces.schema import Limits

Training = Callable[..., Generator[Any, None, None]]
"""A function `training(images, team, **arguments)` that yields a report per epoch; `team` is None if one process trains alone."""


class RankGroups(Protocol):
    """Groups of processes that train one network together (`winnow.search.ray_backend.rank_groups`)."""

    def run(
        self, name: str, training: Training, data: Any, prints: str | None = None, **arguments: Any
    ) -> Generator[Any, None, None]:
        """Run a training on a group.

        Args:
            name: Name of the training.
            training: The training; it runs on rank 0.
            data: Reference to the images in Ray's object store.
            prints: Path or URI of the file for what the model prints on rank 0. Default: it is not kept.
            **arguments: Further arguments of `training`.

        Yields:
            The values that the training yields on rank 0.
        """

    def recall(self, name: str) -> None:
        """End the group of a training whose process is dead. Nothing happens if it had no group."""


@dataclass(frozen=True)
class Job:
    """The settings that all trials of a search share."""

    checkpoints: str
    """Folder of the checkpoints: a path, or the URI of a storage that every node can reach."""
    device: str
    threads: int
    seed: int
    """Seed of the validation split."""
    cpus: float | None = None
    gpus: float | None = None
    """GPUs that Ray reserves for one trial. This is only recorded."""
    by_kind: bool = False
    """Whether that share depends on the kind of GPU. A trial then records the share that is reserved for it."""
    limits: Limits | None = None
    """Limits of the search: a network that exceeds one is not trained."""
    latency: bool = False
    """Whether the latency of each network is measured before its training."""
    concurrent: int = 1
    """Largest number of trials at once."""
    checkpoint_seconds: float = 0.0
    """Minimum number of seconds between two checkpoints; 0 for a checkpoint after each epoch."""
    rungs: tuple[int, ...] = ()
    """Epochs after which a trial may pause and therefore needs a checkpoint."""
    predictions: str | None = None
    """Folder for the predictions of completed trials on the validation images; None if they are not written."""

    @property
    def shares_gpu(self) -> bool:
        """Whether trainings in other processes use the same GPU."""
        return 0 < (self.gpus or 0) < 1


@dataclass(frozen=True)
class SharedData:
    """The images in Ray's object store: one copy per node, which all its workers share."""

    reference: Any
    """ray.ObjectRef of an ImageData."""
    groups: RankGroups | None = None
    """The groups of ranks if a training has several GPUs; None if the worker itself trains."""
    fingerprint: str = ""
    """Fingerprint of the images."""
    checked_nodes: frozenset[str] | None = None
    """Ids of the nodes of a cluster that passed the check before the first trial; None on this machine."""


def train_on(
    data: ImageData | SharedData, name: str, training: Training, prints: str | None = None, **arguments: Any
) -> Generator[Any, None, None]:
    """Run a training in this process or on a group of ranks.

    Args:
        data: Images, or a reference to them with the groups to train on, if any.
        name: Name of the training, such as `trial-00007`.
        training: The training; called with the images, its team (None in this process) and
            `arguments`.
        prints: Path or URI of the file for what the model prints in another process. What it prints in this one is left to the
            caller. Default: it is not kept.
        **arguments: Further arguments of `training`.

    Yields:
        The values that the training yields.
    """
    if not isinstance(data, SharedData):
        return _contained(training(data, None, **arguments))
    if data.groups is not None:
        return data.groups.run(name, training, data.reference, prints, **arguments)
    import ray

    return _contained(training(ray.get(data.reference), None, **arguments))


def _contained(values: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Yield the values of a training, and restore the state of the process after it."""
    from winnow.search.ray_backend.lean_imports import prepare_imports
    from winnow.search.training.process_state import contained

    prepare_imports()
    with contained(), closing(values):
        yield from values
