"""Deletes what earlier Rays of ours left in Ray's temporary folder: Ray itself keeps the folder of every session for ever.

A lock in the folder of a session says that it is ours, and whether its driver lives. The folders of others are left alone.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

LOCK = ".winnow.lock"


def sweep_sessions() -> None:
    """Delete the folders of our sessions whose driver has ended, with their logs."""
    for folder in _sessions("*"):
        lock = folder / LOCK
        with suppress(Timeout, OSError):
            if folder.is_symlink() or lock.is_symlink() or lock.stat().st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def mark_session() -> BaseFileLock | None:
    """Mark the session of this process as ours, after Ray has started.

    Returns:
        The lock, to be released after Ray was shut down; None if the folder cannot be found or written.
    """
    for folder in _sessions(f"*_{os.getpid()}"):  # Ray names it by its driver
        lock = FileLock(folder / LOCK, thread_local=False)
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            return lock
    return None


def _sessions(ending: str) -> list[Path]:
    """The folders of sessions whose name ends so, the newest first."""
    root = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    with suppress(OSError):
        return sorted(Path(root, "ray").glob(f"session_2{ending}"), reverse=True)
    return []
