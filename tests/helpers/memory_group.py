"""A group of processes whose memory the kernel limits, as in a container. It needs root and Linux."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MOUNT = Path("/sys/fs/cgroup")
INSIDE = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')
"""The beginning of a command that runs in a group. The folder of the group follows, then the command."""


@contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """Create a group with a limit in bytes, and yield its folder; its processes are killed at the end.

    Skips the test where that is not possible.
    """
    group = _parent() / f"winnow-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("a memory cgroup cannot be made here (needs root)")
    try:
        if not _write(group, ("memory.max", "memory.limit_in_bytes"), str(limit)):
            pytest.skip("the memory of a cgroup cannot be limited here")
        # Otherwise what does not fit is swapped out.
        _write(group, ("memory.swap.max",), "0")
        _write(group, ("memory.memsw.limit_in_bytes",), str(limit))
        yield group
    finally:
        _end(group)


def _parent() -> Path:
    """The folder in which this process may make a group."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return MOUNT / "memory" / path.lstrip("/")
    return MOUNT  # version 2: a group that has processes cannot have limited groups in it


def _write(group: Path, names: tuple[str, ...], text: str) -> bool:
    for name in names:
        with suppress(OSError):
            if (group / name).exists():
                (group / name).write_text(text)
                return True
    return False


def _end(group: Path) -> None:
    deadline = time.monotonic() + 20
    while pids := (group / "cgroup.procs").read_text().split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    while True:
        try:
            group.rmdir()
            return
        except OSError:  # processes that have just ended
            assert time.monotonic() < deadline
            time.sleep(0.1)
