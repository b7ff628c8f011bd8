"""Runs independent trainings as Ray tasks, as many at once as resources allow."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import Any, TypeVar

from winnow.search.training.errors import RankLost

Item = TypeVar("Item")


def run_tasks(
    ray: Any,
    function: Callable[..., Any],
    items: Sequence[tuple[Item, tuple[Any, ...]]],
    resources: dict[str, float],
    at_once: int | None = None,
) -> Generator[tuple[Item, Any], None, None]:
    """Run a function as Ray tasks.

    A task whose node or rank is lost runs again, up to three times. Tasks that still run when the generator is closed are cancelled.

    Args:
        ray: The initialised `ray` module.
        function: What each task runs.
        items: (item, arguments of the function) of each task.
        resources: What Ray sets aside for each task: `cpu` and `gpu`.
        at_once: Bounds the number of tasks at once; None: the resources alone do.

    Yields:
        (item, result) of each task, in the order in which they end.
    """
    task = ray.remote(max_retries=3, retry_exceptions=[RankLost], num_cpus=resources["cpu"], num_gpus=resources["gpu"])(
        _run_in_sound_process
    )
    todo = iter(items)
    waiting: dict[Any, Item] = {}
    try:
        while True:
            for item, arguments in islice(todo, None if at_once is None else at_once - len(waiting)):
                waiting[task.remote(function, *arguments)] = item
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                yield waiting.pop(reference), ray.get(reference)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)


def _run_in_sound_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run the function; end a process that an earlier task spoiled, so that Ray runs this one in another."""
    from winnow.search.training.process_state import SpoiledProcess, check_process

    try:
        check_process()
    except SpoiledProcess:
        os._exit(1)  # after an exception Ray would use the process again
    return function(*arguments)
