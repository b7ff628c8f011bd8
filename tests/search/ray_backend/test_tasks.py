"""Tasks of Ray: a process that one of them spoiled runs no other."""

from __future__ import annotations

import os
from collections import deque

from winnow.search.ray_backend.tasks import run_tasks


def task(spoils: bool) -> int:
    from winnow.search.training import process_state

    if spoils:
        process_state._spoiled.append("something")
    return os.getpid()


def test_a_process_that_a_task_spoiled_is_replaced(shared_ray):
    items = deque((number, (number == 0,)) for number in range(5))
    ended = list(run_tasks(shared_ray, task, items, {"cpu": 2, "gpu": 0}))  # one at a time
    numbers, processes = zip(*ended, strict=True)
    assert sorted(numbers) == [0, 1, 2, 3, 4]
    spoiler = numbers.index(0)
    assert processes[spoiler] not in processes[spoiler + 1 :]
