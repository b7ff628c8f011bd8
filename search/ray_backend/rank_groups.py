"""Groups of processes that train one network together, a GPU each, on one node or on several: Ray Train starts and watches them.

Ray Train places the processes, gives them their devices, brings them together and finds out when one is lost; it ends the whole
group then. Starting a group takes longer than many a training, so groups are lent to one training after the other: an `Office`, an
actor beside the driver, keeps as many as there are trainings at once. Whoever borrows one (the worker of a trial, the task of a
retraining) holds no device: it sends an order to rank 0 and passes on what that says.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from winnow.search.ray_backend.worker import Training
from winnow.search.training.errors import Failed, RankLost, failure, release_memory

if TYPE_CHECKING:
    import torch

    from winnow.search.resources.plan import ResourcePlan
    from winnow.search.training.ranks import Rank

CLOSE_SECONDS = 3.0  # groups that are just being started end later, by themselves
OF_TRAIN = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # 2 s else, until a lost process is noticed
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less; every epoch has its checkpoint
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_WORKER_STRUCTURED_LOGGING": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
}


@dataclass(frozen=True)
class Crew:
    """What each group is made of: so many ranks, each with these resources of Ray (`GPU`, `CPU`) and so many threads."""

    ranks: int
    device: str
    threads: int
    resources: dict[str, float]

    @staticmethod
    def of(plan: ResourcePlan) -> Crew:
        return Crew(plan.ranks, plan.device, max(1, plan.threads // plan.ranks), plan.per_rank)


@dataclass(frozen=True)
class Groups:
    """To borrow a group from; it may be sent to other processes."""

    office: Any

    def run(self, who: str, training: Training, data: Any, **arguments: Any) -> Generator[Any, None, None]:
        """What the training yields on rank 0 of a group; `data` is a reference to the images.

        Rank 0 goes on from a `yield` only when the next value is asked for. Failed for what a rank raised; RankLost where the group
        is gone without a word. `who` is a name for this training: whoever borrowed under it before is taken to be dead.
        """
        group = ray.get(self.office.lend.remote(who))
        try:
            ray.get(self.office.tell.remote(group, 0, Order(training, data, arguments)))
            while True:
                word = ray.get(self.office.hear.remote(group))
                if isinstance(word, Exception):
                    raise word
                if word == DONE:
                    return
                (value,) = word
                yield value
                ray.get(self.office.tell.remote(group, 0, GO_ON))
        finally:
            ray.get(self.office.take_back.remote(who))

    def recall(self, who: str) -> None:
        """Its borrower is dead. Nothing happens if it had no group."""
        with suppress(RayError):  # while all ends, the office may have ended before
            ray.get(self.office.recall.remote(who))


@contextmanager
def groups(crew: Crew, count: int) -> Iterator[Groups]:
    """So many groups; being started when this is entered, ended with their processes when it is left."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor: Any = ray.remote(Office)
    office = actor.options(num_cpus=0, max_concurrency=10_000, scheduling_strategy=here).remote(crew, count)
    for _ in range(count):
        office.keep.remote()
    try:
        yield Groups(office)
    finally:
        _leaving.append(office)
        ray.wait([office.close.remote()], timeout=CLOSE_SECONDS)


_leaving: list[Any] = []
"""Offices that close. Ray would end an actor that nobody knows any more, and Ray Train would leave behind what a group being started holds."""


@dataclass(frozen=True)
class Order:
    training: Training
    data: Any
    arguments: dict[str, Any]


GO_ON, DONE = "go on", "done"


class Office:
    """The actor: keeps groups running, lends them, and passes on what is said to and by their ranks.

    A group is known by a name of its own; another one that takes its place has another name, so that nothing said to the one
    of before reaches it.
    """

    def __init__(self, crew: Crew, count: int) -> None:
        os.environ.update(OF_TRAIN)
        self.crew = crew
        self.storage = tempfile.mkdtemp(
            prefix="winnow-train-"
        )  # what Ray Train insists on writing; of no use to anyone
        self.threads = ThreadPoolExecutor(count)
        self.closed = False
        self.placements: dict[str, Any] = {}  # of the groups that are there
        self.free: asyncio.Queue[str | RankLost] = asyncio.Queue()
        self.lent: dict[str, str] = {}  # borrower -> group
        self.turns: dict[str, object] = {}  # borrower -> its latest wish
        self.orders: defaultdict[tuple[str, int], asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self.words: dict[str, asyncio.Queue[Any]] = {}  # what its ranks say; of every group that ever was
        self.keepers: set[asyncio.Task[Any] | None] = set()

    async def keep(self) -> None:
        """One group, and another one whenever it was lost."""
        self.keepers.add(asyncio.current_task())
        while not self.closed:
            name = uuid4().hex
            here, this = asyncio.get_running_loop(), ray.get_runtime_context().current_actor
            cause = await here.run_in_executor(self.threads, start, self.crew, name, self.storage, this)
            if name in self.words:
                self.placements.pop(name, None)
                self.words[name].put_nowait(RankLost(cause))
            else:  # whoever waits for a group is told why there is none
                self.free.put_nowait(RankLost(cause))
                await asyncio.sleep(1.0)

    async def close(self) -> None:
        self.closed = True
        for name in list(self.placements):
            self._end(name)
        others = [task for task in self.keepers if task is not None]
        if others:
            await asyncio.wait(others)
        shutil.rmtree(self.storage, ignore_errors=True)
        ray.actor.exit_actor()

    # --- for borrowers ----------------------------------------------------------------------------------------------------

    async def lend(self, who: str) -> str:
        await self.recall(who)
        turn = self.turns[who] = object()
        while True:
            found = await self.free.get()
            if self.turns.get(who) is not turn:  # who waited here is dead, and there is a successor
                self.free.put_nowait(found)
                raise RankLost(f"{who} was started again")
            if isinstance(found, RankLost):
                raise found
            if found in self.placements:
                self.lent[who] = found
                return found

    async def take_back(self, who: str) -> None:
        group = self.lent.pop(who, None)
        if group in self.placements:
            self.free.put_nowait(group)

    async def recall(self, who: str) -> None:
        self.turns.pop(who, None)
        self._end(self.lent.pop(who, None))

    async def tell(self, group: str, rank: int, message: Any) -> None:
        self.orders[group, rank].put_nowait(message)

    async def hear(self, group: str) -> Any:
        return await self.words[group].get()

    # --- for ranks --------------------------------------------------------------------------------------------------------

    async def arrive(self, group: str, placement: Any) -> None:
        """Of rank 0: all ranks are there."""
        self.words[group] = asyncio.Queue()
        self.placements[group] = placement
        if self.closed:
            self._end(group)
        self.free.put_nowait(group)

    async def take(self, group: str, rank: int) -> Any:
        return await self.orders[group, rank].get()

    async def say(self, group: str, word: Any) -> None:
        self.words[group].put_nowait(word)

    async def fail(self, group: str, word: Failed) -> None:
        """The last word of a group: its other ranks may wait for one another for ever."""
        self.words[group].put_nowait(word)
        self._end(group)

    def _end(self, group: str | None) -> None:
        """Kill its processes, whatever they do; Ray Train then ends it."""
        placement = self.placements.pop(group, None) if group else None
        if placement is not None:
            ray.util.remove_placement_group(placement)


def start(crew: Crew, name: str, storage: str, office: Any) -> str:
    """Start a group through Ray Train and stay until it has ended; why it has."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        serve,
        train_loop_config={"office": office, "group": name, "device": crew.device, "threads": crew.threads},
        # A rank waits for the others at most so long, also at its start: on a busy machine imports take minutes.
        torch_config=TorchConfig(backend="nccl" if crew.device == "cuda" else "gloo", timeout_s=600),
        scaling_config=ScalingConfig(
            num_workers=crew.ranks, use_gpu="GPU" in crew.resources, resources_per_worker=crew.resources
        ),
        run_config=RunConfig(name=name, storage_path=storage, failure_config=FailureConfig(max_failures=0)),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        # A rank that lost contact has raised RankLost; the ones that did not are those it lost.
        failures = {rank: str(failure) for rank, failure in error.worker_failures.items()}
        dead = sorted(rank for rank, text in failures.items() if RankLost.__name__ not in text) or sorted(failures)
        return f"{' and '.join(f'rank {rank}' for rank in dead)} of {crew.ranks} lost"
    except (TrainingFailedError, RayError) as error:
        return f"its group of ranks ended: {error}"
    return "its group of ranks ended"


# --- in a rank ----------------------------------------------------------------------------------------------------------


def serve(config: dict[str, Any]) -> None:
    """What Ray Train runs in every rank, for as long as the group lives."""
    import torch
    from ray import train
    from ray.train.torch import get_device

    from winnow.search.training.ranks import Rank

    torch.set_num_threads(config["threads"])
    context = train.get_context()
    rank = Rank(context.get_world_rank(), context.get_world_size())
    device = get_device() if config["device"] == "cuda" else torch.device(config["device"])
    post = Post(config["office"], config["group"], rank.index)
    if rank.index == 0:
        post.call("arrive", ray.util.get_current_placement_group())
        lead(post, rank, device)
    else:
        follow(post, rank, device)


@dataclass(frozen=True)
class Post:
    """A rank's line to the office."""

    office: Any
    group: str
    index: int

    def call(self, method: str, *arguments: Any) -> Any:
        return ray.get(getattr(self.office, method).remote(self.group, *arguments))

    def take(self) -> Any:
        """The next message to this rank."""
        return self.call("take", self.index)


def lead(post: Post, rank: Rank, device: torch.device) -> None:
    """Rank 0: carry out one order after the other. An order is dropped where another one comes instead of the word to go on."""
    from winnow.search.training.ranks import Task, Team

    message = post.take()
    while True:
        order: Order = message

        def tell(what: Task | float, images: Any = order.data) -> None:
            packed = (images, ray.put(what)) if isinstance(what, Task) else what
            for index in range(1, rank.count):
                post.call("tell", index, packed)

        team = Team(rank, device, tell)
        try:
            with closing(order.training(ray.get(order.data), team, **order.arguments)) as values:
                for value in values:
                    post.call("say", (value,))
                    message = post.take()
                    if message != GO_ON:
                        break
                else:
                    post.call("say", DONE)
                    message = post.take()
            continue
        except RankLost:
            raise
        except (Exception, SystemExit) as error:  # a model that calls sys.exit() would take the group along
            failed = Failed(*failure(error))
        # Only here, with the exception, are the frames gone that hold the tensors of the training.
        release_memory()
        post.call("fail" if team.broken else "say", failed)
        message = post.take()


def follow(post: Post, rank: Rank, device: torch.device) -> None:
    """The other ranks: their part of the epochs that rank 0 tells them to train."""
    from winnow.search.training import loop
    from winnow.search.training.device_data import DeviceData
    from winnow.search.training.ranks import Task, contact

    training: loop.TrainingState | None = None
    try:
        while True:
            message = post.take()
            with contact(rank):
                if isinstance(message, float):
                    assert training is not None  # no epoch without a beginning
                    training.follow_epoch(lr_scale=message)
                    continue
                training = None
                images, task = ray.get(list(message))
                assert isinstance(task, Task)
                on_device = DeviceData.build(images, task.config.data, device, task.split_seed, task.use)
                training = loop.TrainingState.start(task.config, on_device, device, task.seed, rank, task.micro_batches)
                if task.checkpoint is not None:
                    training.restore(task.checkpoint)
    except RankLost:
        raise
    except (Exception, SystemExit) as error:
        status, text = failure(error)
        post.call("fail", Failed(status, f"rank {rank.index}: {text}"))
        raise
