"""Finds out why a worker died, from the files that Tune writes on the driver and from the last heartbeat."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ray import cloudpickle
from ray.air.execution._internal import RayActorManager
from ray.exceptions import RayActorError, RayTaskError

from winnow.search.training.heartbeat import kernel_kill

SPOILED = "SpoiledProcess"
"""Name of the exception of `winnow.search.training.process_state`, which imports torch."""


def raised_by_worker(pickled_error: str | None) -> str:
    """Return the traceback that a worker ended with; empty if there is none, for example because it was killed.

    Args:
        pickled_error: Path of the file with the error; None if Tune wrote none.
    """
    if pickled_error is None:
        return ""
    error = cloudpickle.loads(Path(pickled_error).read_bytes())
    return str(error).strip() if isinstance(error, RayTaskError) else ""


def had_not_begun(cause: str) -> bool:
    """Return whether a traceback says that the process was unusable before the trial began, because of an earlier training.

    Args:
        cause: Result of `raised_by_worker`.
    """
    return bool(cause) and cause.splitlines()[-1].partition(":")[0].endswith(SPOILED)


def killed_for_memory(error_file: str | None) -> str | None:
    """Return a message if Ray killed the worker because its node was short of memory; None if there was another cause.

    Args:
        error_file: Path of the text file with the trial's errors; None if there is none. In Ray 2.60 no other file contains an
            `OutOfMemoryError`.
    """
    if error_file is None or not Path(error_file).exists():
        return None
    return short_of_memory(Path(error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure # ")[2])


@contextmanager
def lost_tasks_as_deaths() -> Iterator[None]:
    """Let Tune treat a worker whose report is lost like one that died, with Ray's text as its error.

    Tune (Ray 2.60) knows errors of the worker's code and deaths. Any other error would end the search, such as that of a
    worker that Ray killed for memory while it was training, or of a report that was lost with its node.
    """
    handle = RayActorManager._actor_task_failed

    def handle_death(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        handle(manager, tracked_actor_task, exception)

    with patch.object(RayActorManager, "_actor_task_failed", handle_death):
        yield


def short_of_memory(text: str) -> str | None:
    """Return a message for the user if Ray's text says that it killed a process because its node was short of memory."""
    used = re.search(r"killed due to the node running low on memory\. .* was (\S+) used / (\S+) limit", text)
    if used is None:
        return None
    return _killed("Ray", f"{used[1]} of {used[2]} were used")


def killed_by_kernel(beat: bytes | None) -> str | None:
    """Return a message for the user if the kernel killed a process because its node was short of memory; None if it did not.

    It may be wrong if the kernel killed another process within the seconds between the last heartbeat and the death. Then the trial
    is tried once more, in smaller pieces.

    Args:
        beat: The last heartbeat of the process; None if there is none.
    """
    details = kernel_kill(beat)
    return None if details is None else _killed("the kernel", details)


def _killed(killer: str, details: str) -> str:
    return (
        f"{killer} killed its worker because the memory of the node ran out ({details}); "
        "fewer trials at once (--concurrent), a smaller batch_size or a smaller model needs less"
    )
