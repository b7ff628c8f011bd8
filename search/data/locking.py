"""Locks between processes that prepare the same images, with a message where one waits for long."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from winnow.spaces.errors import printable

PATIENCE_SECONDS = 10.0
"""Seconds after which the wait for a lock is reported."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock. A wait for another process has no limit, since that may decode for hours, but is told on standard error.

    Args:
        path: The file of the lock.

    Raises:
        OSError: It cannot be created.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        text = f"winnow: waiting for another process, which prepares the same images and holds {path}"
        print(printable(text), file=sys.stderr, flush=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
