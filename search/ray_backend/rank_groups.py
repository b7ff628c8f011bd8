"""Groups of processes that train one network together, with one GPU each, on one node or several. Ray Train starts and watches them.

Ray Train places the processes, assigns their devices, connects them and notices when one is lost; it then ends the whole group.
Starting a group takes longer than many trainings, so groups are reused: a `RankGroupPool`, an actor on the driver's node, keeps as
many groups as there are concurrent trainings. The process that acquires a group (the worker of a trial or the task of a retraining)
holds no device itself: it sends a request to rank 0 and passes on the replies. `rank_process.py` contains the code of the ranks.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from winnow.search.ray_backend.rank_process import DONE, NEXT, TrainRequest, serve
from winnow.search.ray_backend.shared_data import Training
from winnow.search.storage.leftovers import temporary_folder
from winnow.search.training.errors import DeviceLost, Failed, RankLost

if TYPE_CHECKING:
    from winnow.search.resources.plan import ResourcePlan

CLOSE_SECONDS = 3.0  # groups that are still starting end later on their own
RAY_TRAIN_ENVIRONMENT = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # by default it takes 2 s to notice a lost process
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # saves a process; not needed, since every epoch has its checkpoint
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@dataclass(frozen=True)
class RankGroupSpec:
    """The processes and resources of each group.

    Attributes:
        ranks: Number of processes of a group.
        device: `cuda` or `cpu`.
        threads: Number of CPU threads of each rank.
        resources: Resources that Ray reserves for each rank (`GPU`, `CPU`).
    """

    ranks: int
    device: str
    threads: int
    resources: dict[str, float]

    @staticmethod
    def of(plan: ResourcePlan) -> RankGroupSpec:
        return RankGroupSpec(plan.ranks, plan.device, max(1, plan.threads // plan.ranks), plan.per_rank)


@dataclass(frozen=True)
class RankGroupClient:
    """Gives access to the groups of a pool, also from other processes."""

    pool: Any

    def run(
        self, name: str, training: Training, data: Any, prints: str | None = None, **arguments: Any
    ) -> Generator[Any, None, None]:
        """Run a training on a group.

        Rank 0 continues from a `yield` only when the next value is asked for.

        Args:
            name: Name of the training. A process that acquired a group under this name before is assumed to be dead.
            training: The training; it runs on rank 0.
            data: A reference to the images.
            prints: Path or URI of the file for what the model prints on rank 0. Default: it is not kept.
            **arguments: Further arguments of `training`.

        Yields:
            The values that the training yields on rank 0.

        Raises:
            Failed: A rank raised an error.
            RankLost: The group is gone.
        """
        group = ray.get(self.pool.acquire.remote(name))
        try:
            ray.get(self.pool.send.remote(group, 0, TrainRequest(training, data, arguments, prints)))
            while True:
                message = ray.get(self.pool.receive.remote(group))
                if isinstance(message, Exception):
                    raise message
                if message == DONE:
                    return
                (value,) = message
                yield value
                ray.get(self.pool.send.remote(group, 0, NEXT))
        finally:
            ray.get(self.pool.release.remote(name))

    def recall(self, name: str) -> None:
        """End the group of a training whose process is dead. Nothing happens if it had no group."""
        with suppress(RayError):  # during shutdown the pool may have ended already
            ray.get(self.pool.recall.remote(name))


@contextmanager
def rank_groups(spec: RankGroupSpec, count: int) -> Iterator[RankGroupClient]:
    """Keep groups running while the block runs; their processes end with it.

    Args:
        spec: Processes and resources of each group.
        count: Number of groups, which is the number of concurrent trainings.

    Yields:
        The client by which trainings use the groups.
    """
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(RankGroupPool)
    pool = actor.options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=this_node).remote(spec, count)
    for _ in range(count):
        pool.keep.remote()
    try:
        yield RankGroupClient(pool)
    finally:
        _leaving.append(pool)
        ray.wait([pool.close.remote()], timeout=CLOSE_SECONDS)


_leaving: list[Any] = []
"""Pools that are closing. Without a reference, Ray would end them at once, and a group that is starting would keep its resources."""


class RankGroupPool:
    """An actor that keeps groups running, lends them to trainings, and passes messages between the two.

    Each group has its own name, and a replacement gets a new one, so that messages for a lost group never reach its successor.
    """

    def __init__(self, spec: RankGroupSpec, count: int) -> None:
        os.environ.update(RAY_TRAIN_ENVIRONMENT)
        self.spec = spec
        self.cleanup = ExitStack()
        # Ray Train always writes here; these files are never read.
        self.storage = self.cleanup.enter_context(temporary_folder("train"))
        self.threads = ThreadPoolExecutor(count)
        self.closed = False
        self.placements: dict[str, Any] = {}  # placement groups of the groups that are running
        self.free: asyncio.Queue[str | RankLost] = asyncio.Queue()
        self.acquired: dict[str, str] = {}  # training -> group
        self.turns: dict[str, object] = {}  # training -> its latest request
        self.inboxes: defaultdict[tuple[str, int], asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.replies: dict[str, asyncio.Queue[Any]] = {}  # replies of all groups, including those that have ended
        self.keepers: set[asyncio.Task[Any] | None] = set()

    async def keep(self) -> None:
        """Keep one group running, and replace it whenever it is lost."""
        self.keepers.add(asyncio.current_task())
        while not self.closed:
            name = uuid4().hex
            loop, this = asyncio.get_running_loop(), ray.get_runtime_context().current_actor
            cause = await loop.run_in_executor(self.threads, _start, self.spec, name, self.storage, this)
            if name in self.replies:
                self.placements.pop(name, None)
                self.replies[name].put_nowait(RankLost(cause))
            else:  # each process that waits for a group receives the reason why there is none
                self.free.put_nowait(RankLost(cause))
                await asyncio.sleep(1.0)

    async def close(self) -> None:
        """End all groups, wait for their end, and end this actor."""
        self.closed = True
        for name in list(self.placements):
            self._end(name)
        others = [task for task in self.keepers if task is not None]
        if others:
            await asyncio.wait(others)
        self.cleanup.close()
        ray.actor.exit_actor()

    # --- for trainings ----------------------------------------------------------------------------------------------------

    async def acquire(self, name: str) -> str:
        """Wait for a free group, and lend it to a training. A group that an earlier process acquired for this training ends.

        Args:
            name: Name of the training.

        Returns:
            Name of the group.

        Raises:
            RankLost: A group could not be started, or the training was started again in another
                process.
        """
        await self.recall(name)
        turn = self.turns[name] = object()
        while True:
            group = await self.free.get()
            if (
                self.turns.get(name) is not turn
            ):  # the process that waited here is dead, and another one has replaced it
                self.free.put_nowait(group)
                raise RankLost(f"{name} was started again")
            if isinstance(group, RankLost):
                raise group
            if group in self.placements:
                self.acquired[name] = group
                return group

    async def release(self, name: str) -> None:
        """Take back the group of a training, and keep it for the next one.

        Args:
            name: Name of the training. Nothing happens if it has no group.
        """
        group = self.acquired.pop(name, None)
        if group in self.placements:
            self.free.put_nowait(group)

    async def recall(self, name: str) -> None:
        """End the group of a training whose process is dead.

        Args:
            name: Name of the training. Nothing happens if it has no group.
        """
        self.turns.pop(name, None)
        self._end(self.acquired.pop(name, None))

    async def send(self, group: str, rank: int, message: Any) -> None:
        """Send a message to one rank of a group.

        Args:
            group: Name of the group.
            rank: Index of the rank, 0 to the number of ranks - 1.
            message: For rank 0 a `TrainRequest` or `NEXT`; for the others (images, task) to start a
                training, or the factor of the learning rate to train an epoch.
        """
        self.inboxes[group, rank].put_nowait(message)

    async def receive(self, group: str) -> Any:
        """Wait for the next message from rank 0 of a group.

        Args:
            group: Name of the group.

        Returns:
            A reply, or the error that ended the training or the group.
        """
        return await self.replies[group].get()

    # --- for ranks --------------------------------------------------------------------------------------------------------

    async def arrive(self, group: str, placement: Any) -> None:
        """Register a group that is ready. Called by rank 0 once all ranks have started.

        Args:
            group: Name of the group.
            placement: Its placement group; removing it kills the processes of the group.
        """
        self.replies[group] = asyncio.Queue()
        self.placements[group] = placement
        if self.closed:
            self._end(group)
        self.free.put_nowait(group)

    async def next_message(self, group: str, rank: int) -> Any:
        """Wait for the next message to a rank. Called by that rank.

        Args:
            group: Name of the group.
            rank: Index of the rank.
        """
        return await self.inboxes[group, rank].get()

    async def reply(self, group: str, message: Any) -> None:
        """Pass on a reply of a group to the training that acquired it. Called by rank 0.

        Args:
            group: Name of the group.
            message: A tuple with one value that the training yielded, `DONE`, or a `Failed`.
        """
        self.replies[group].put_nowait(message)

    async def fail(self, group: str, message: Failed) -> None:
        """Pass on the last message of a group, and end the group, since its other ranks may wait for each other forever.

        Args:
            group: Name of the group.
            message: Status and error of the training.
        """
        self.replies[group].put_nowait(message)
        self._end(group)

    def _end(self, group: str | None) -> None:
        """Kill the processes of a group, whatever its state; Ray Train then ends it."""
        placement = self.placements.pop(group, None) if group else None
        if placement is not None:
            ray.util.remove_placement_group(placement)


def _start(spec: RankGroupSpec, name: str, storage: str, pool: Any) -> str:
    """Start a group through Ray Train, and wait until it ends.

    Args:
        spec: Processes and resources of the group.
        name: Name of the group.
        storage: Folder that Ray Train writes to.
        pool: Handle of the pool, which the ranks call.

    Returns:
        The reason why the group ended.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        serve,
        train_loop_config={"pool": pool, "group": name, "device": spec.device, "threads": spec.threads},
        # A rank waits at most this long for the others. This includes its start: on a busy machine, imports take minutes.
        torch_config=TorchConfig(backend="nccl" if spec.device == "cuda" else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=spec.ranks, use_gpu="GPU" in spec.resources, resources_per_worker=spec.resources
        ),
        run_config=RunConfig(name=name, storage_path=storage, failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        # A rank that lost contact has raised RankLost; the ranks that did not raise it are the lost ones.
        failures = {rank: str(failure) for rank, failure in error.worker_failures.items()}
        dead = sorted(rank for rank, text in failures.items() if RankLost.__name__ not in text) or sorted(failures)
        spoiled = [text.strip().splitlines()[-1] for text in failures.values() if DeviceLost.__name__ in text]
        return f"{' and '.join(f'rank {rank}' for rank in dead)} of {spec.ranks} lost" + "".join(
            f" ({text})" for text in spoiled[:1]
        )
    except (TrainingFailedError, RayError) as error:
        return f"its group of ranks ended: {error}"
    return "its group of ranks ended"
