"""Independent trainings as Ray tasks, as many at once as resources allow."""

from __future__ import annotations

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
    """(item, `function(*arguments)`) of every (item, arguments), in the order in which they end.

    `at_once` bounds their number where resources do not. A task whose node is lost runs again, up to three times, as does one
    that lost a rank. What still runs when the generator is closed is cancelled.
    """
    task = ray.remote(max_retries=3, retry_exceptions=[RankLost], num_cpus=resources["cpu"], num_gpus=resources["gpu"])(
        function
    )
    todo = iter(items)
    waiting: dict[Any, Item] = {}
    try:
        while True:
            for item, arguments in islice(todo, None if at_once is None else at_once - len(waiting)):
                waiting[task.remote(*arguments)] = item
            if not waiting:
                return
            ready, _ = ray.wait(list(waiting), num_returns=1, timeout=1.0)
            for reference in ready:
                yield waiting.pop(reference), ray.get(reference)
    finally:
        for reference in waiting:
            ray.cancel(reference, force=True)
