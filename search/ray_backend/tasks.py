"""Runs independent trainings as Ray tasks, as many at once as resources allow, and starts those again whose process was lost."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from winnow.search.ray_backend.worker_errors import short_of_memory
from winnow.search.study.failure_policy import DIED, Losses
from winnow.search.training.errors import Failed, RankLost
from winnow.spaces.trial_status import TrialStatus

Item = TypeVar("Item")

EXIT_SECONDS = 0.3  # within them Ray sends off what a task returned


def run_tasks(
    ray: Any,
    function: Callable[..., Any],
    todo: deque[tuple[Item, tuple[Any, ...]]],
    resources: dict[str, float],
    at_once: int | None = None,
    epoch: Callable[[Item], int] = lambda item: 0,
) -> Generator[tuple[Item, Any], None, None]:
    """Run a function as Ray tasks.

    A task whose process, node or rank is lost runs again. After four losses with no epoch finished in between it ends as `lost`.
    Tasks that still run when the generator is closed are cancelled.

    Args:
        ray: The initialised `ray` module.
        function: What each task runs.
        todo: (item, arguments of the function) of each task; emptied. What is appended between two results runs too.
        resources: What Ray sets aside for each task: `cpu` and `gpu`.
        at_once: Bounds the number of tasks at once; None: the resources alone do.
        epoch: The finished epochs of an item, asked for when its process was lost; default: losses are counted without regard to them.

    Yields:
        (item, result) of each task, in the order in which they end. The result is what the function returned, or a `Failed`
        with the status `lost`, or `out_of_memory` if Ray killed the process because its node ran short of memory.
    """
    task = ray.remote(max_retries=0, num_cpus=resources["cpu"], num_gpus=resources["gpu"])(_run_in_sound_process)
    waiting: dict[Any, tuple[Item, tuple[Any, ...], Losses]] = {}
    try:
        while todo or waiting:
            while todo and (at_once is None or len(waiting) < at_once):
                item, arguments = todo.popleft()
                waiting[task.remote(function, *arguments)] = item, arguments, Losses()
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                item, arguments, losses = waiting.pop(reference)
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    result = _loss(ray, error)
                    if result is None or (result.status == TrialStatus.LOST and losses.lost(epoch(item))):
                        waiting[task.remote(function, *arguments)] = item, arguments, losses
                        continue
                yield item, result
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _loss(ray: Any, error: Exception) -> Failed | None:
    """Return what the loss of its process means for a task, None if it had not begun; any other error is raised again."""
    from winnow.search.training.process_state import SpoiledProcess

    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return Failed(TrialStatus.OUT_OF_MEMORY, short_of_memory(str(error)) or str(error))
    if not isinstance(error, ray.exceptions.RayTaskError):  # the process or its node ended
        return Failed(TrialStatus.LOST, DIED)
    if isinstance(error.cause, SpoiledProcess):
        return None
    if isinstance(error.cause, RankLost):
        return Failed(TrialStatus.LOST, f"{DIED}:\n{error.cause}")
    raise error


def _run_in_sound_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run the function; let a process end that this or an earlier task spoiled, since after an exception Ray would use it again.

    Raises:
        SpoiledProcess: An earlier task did, so the function was not started.
    """
    from winnow.search.training.process_state import SpoiledProcess, check_process

    check_process()
    try:
        return function(*arguments)
    finally:
        try:
            check_process()
        except SpoiledProcess:
            threading.Timer(EXIT_SECONDS, os._exit, [1]).start()
