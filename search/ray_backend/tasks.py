"""Runs independent trainings as Ray tasks, as many at once as resources allow, and restarts those whose process was lost or hangs."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from winnow.search.ray_backend.free_resources import lacking
from winnow.search.ray_backend.silence import Silence, seconds_between_looks
from winnow.search.ray_backend.worker_errors import killed_by_kernel, short_of_memory
from winnow.search.study.failure_policy import DIED, Losses
from winnow.search.training.errors import Failed, RankLost
from winnow.search.training.heartbeat import process_of
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.search.ray_backend.late_nodes import NodeWatch

Item = TypeVar("Item")

PATIENCE = 45.0
"""Seconds without a sign of life of any task before the wait is reported; a worker needs several seconds to start."""
SECONDS_WITHOUT_NODES = 0.5  # between two looks for a node, if none may run tasks
EXIT_SECONDS = 0.3  # time for Ray to send the result of a task


@dataclass(frozen=True)
class Hangs(Generic[Item]):
    """Settings for the detection of hanging tasks.

    Attributes:
        heartbeat: Returns the path or URI of the file that the training of an item rewrites for as long as it lives.
        limit: Seconds without a change of that file after which the task counts as hanging. The limit is longer until its first
            batch. A task is not watched before its first heartbeat, since it may wait for resources.
        run_again: Whether a task that hangs is also run again.
    """

    heartbeat: Callable[[Item], str]
    limit: float
    run_again: bool = True


@dataclass
class _Running(Generic[Item]):
    """A task that has been submitted to Ray."""

    item: Item
    arguments: tuple[Any, ...]
    losses: Losses = field(default_factory=Losses)
    silence: Silence | None = None
    hung: str | None = None
    """The message about the task if it hung and was killed; None otherwise."""
    nodes: frozenset[str] = frozenset()
    """Ids of the nodes that may run it."""
    displaced: bool = False
    """Whether it was cancelled because all these nodes are lost."""


def run_tasks(
    ray: Any,
    function: Callable[..., Any],
    todo: deque[tuple[Item, tuple[Any, ...]]],
    resources: dict[str, float],
    at_once: int | None = None,
    epoch: Callable[[Item], int] = lambda item: 0,
    hangs: Hangs[Item] | None = None,
    say: Callable[[str], None] | None = None,
    nodes: NodeWatch | None = None,
    name: Callable[[Item], str] = str,
) -> Generator[tuple[Item, Any], None, None]:
    """Run a function as Ray tasks.

    A task runs again if its process, node or rank is lost. A task that hangs is killed and also runs again, unless `hangs` says
    otherwise. After four losses with no epoch finished in between, it ends as `lost` or `timed_out`. Tasks that still run when the
    generator is closed are cancelled.

    Args:
        ray: The initialised `ray` module.
        function: The function that each task runs.
        todo: (item, arguments of the function) of each task. The queue is emptied; tasks that are appended between two results run
            too.
        resources: Amounts of `cpu` and `gpu` that Ray reserves for each task.
        at_once: Largest number of concurrent tasks. Default: only the resources limit it.
        epoch: Returns the number of finished epochs of an item, after its process was lost. Default: all losses of an item count.
        hangs: Settings for the detection of hanging tasks. Default: they are not detected.
        say: Receives a message about each task that runs again because its process hung or was lost, and one if no task has begun or
            ended after `PATIENCE` seconds because the resources are in use elsewhere, for which it requires `hangs`. Default: there
            is no message.
        nodes: The nodes that may run tasks. Nodes that join are checked before they run any. No more tasks are handed to Ray than
            these nodes can run at once, so that later nodes take the rest. Default: any node runs tasks.
        name: Returns the name of an item in the messages. Default: its text.

    Yields:
        (item, result) of each task, in the order in which they end. The result is what the function returned, or a `Failed`
        with the status `lost` or `timed_out`, or `out_of_memory` if Ray or the kernel killed the process because its node ran short of
        memory.

    Raises:
        OSError: A task seems to hang, but no sign of life can be written where it writes them.
    """
    if nodes:
        from winnow.search.ray_backend.late_nodes import node_selector
    task = ray.remote(max_retries=0, num_cpus=resources["cpu"], num_gpus=resources["gpu"])(run_in_sound_process)
    waiting: dict[Any, _Running[Item]] = {}
    again: deque[_Running[Item]] = deque()
    begun_by = time.monotonic() + PATIENCE if say else math.inf
    is_told = False
    run_again = {TrialStatus.LOST} | ({TrialStatus.TIMED_OUT} if hangs and hangs.run_again else set())

    def start(running: _Running[Item]) -> None:
        if hangs:
            running.hung, running.silence = None, Silence(hangs.heartbeat(running.item))
        placed = task
        if nodes:
            running.nodes, running.displaced = nodes.sound, False
            placed = task.options(label_selector=node_selector(running.nodes))
        waiting[placed.remote(function, *running.arguments)] = running

    try:
        while todo or again or waiting:
            room = at_once
            if nodes:
                nodes.look()
                _cancel_displaced(ray, waiting, nodes.sound)
                room = min(at_once or sys.maxsize, nodes.room(resources))
            while (again or todo) and (room is None or len(waiting) < room):
                start(again.popleft() if again else _Running(*todo.popleft()))
            if not waiting:
                if say and not is_told:
                    needs = " and ".join(f"{amount:g} {key.upper()}s" for key, amount in resources.items() if amount)
                    say(f"waiting for a node that can run trainings, which need {needs} each")
                is_told = True
                time.sleep(SECONDS_WITHOUT_NODES)
                continue
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                begun_by, is_told = math.inf, False
                running = waiting.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    result = _loss(ray, error, running)
                    is_lost = result is not None and result.status in run_again
                    if result is None or (is_lost and running.losses.lost(epoch(running.item))):
                        if say and is_lost:
                            say(f"{name(running.item)}: {running.hung or 'its worker was lost'}; it runs again")
                        again.append(running)
                        continue
                yield running.item, result
            if hangs:
                _kill_hung(ray, waiting, hangs.limit)
            if say and time.monotonic() > begun_by:
                begun_by = math.inf
                has_begun = not waiting or any(running.silence and running.silence.beat for running in waiting.values())
                if not has_begun and (words := lacking(ray, resources, "a training")):
                    say(f"waiting: {words}")
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _cancel_displaced(ray: Any, waiting: dict[Any, _Running[Item]], sound: frozenset[str]) -> None:
    """Cancel tasks whose nodes are all lost, so that they run on others."""
    for reference, running in waiting.items():
        if not running.displaced and not running.nodes & sound:
            running.displaced = True
            ray.cancel(reference, force=True)


def _kill_hung(ray: Any, waiting: dict[Any, _Running[Item]], limit: float) -> None:
    """Kill the processes of the tasks that hang; Ray then reports the tasks as lost.

    Raises:
        OSError: A task seems to hang, but its heartbeat cannot be written.
    """
    for reference, running in waiting.items():
        if running.silence is None:
            continue
        running.silence.seconds(seconds_between_looks(limit))
        if running.silence.beat is None or (message := running.silence.overdue(limit)) is None:
            continue
        running.hung = message
        ray.cancel(reference, force=True)
        process_id = process_of(running.silence.beat)
        if process_id is not None:  # a process that was stopped (SIGSTOP) does not react to Ray
            with suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)


def _loss(ray: Any, error: Exception, running: _Running[Item]) -> Failed | None:
    """Return the result for a task that lost its process; None if it runs again in any case. Any other error is raised again."""
    if running.displaced:
        return None
    if running.hung:
        return Failed(TrialStatus.TIMED_OUT, running.hung)
    from winnow.search.training.process_state import SpoiledProcess

    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failed(TrialStatus.OUT_OF_MEMORY, short_of_memory(str(error)) or str(error))
    if isinstance(error, ray.exceptions.TaskUnschedulableError):  # its nodes were lost before it began
        return None
    if running.silence and (memory := killed_by_kernel(running.silence.last_beat())) is not None:
        return Failed(TrialStatus.OUT_OF_MEMORY, memory)
    if not isinstance(error, ray.exceptions.RayTaskError):  # the process or its node ended
        return Failed(TrialStatus.LOST, DIED)
    if isinstance(error.cause, SpoiledProcess):
        return None
    if isinstance(error.cause, RankLost):
        return Failed(TrialStatus.LOST, f"{DIED}:\n{error.cause}")
    raise error


def run_in_sound_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a Ray worker, restore the state of its process, and end the process if that is not possible.

    Without this, Ray would use the process for other trainings, also after an exception.

    Args:
        function: The function, which may run the user's code.
        *arguments: Its arguments.

    Returns:
        What the function returns.

    Raises:
        SpoiledProcess: An earlier task has spoiled the process, so the function was not started.
    """
    from winnow.search.ray_backend.lean_imports import prepare_imports

    prepare_imports()
    from winnow.search.training.process_state import SpoiledProcess, check_process, contained

    try:
        with contained():
            return function(*arguments)
    finally:
        try:
            check_process()
        except SpoiledProcess:
            threading.Timer(EXIT_SECONDS, os._exit, [1]).start()
