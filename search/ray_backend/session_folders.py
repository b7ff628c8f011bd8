"""Deletes the session folders that earlier runs of Winnow left in Ray's temporary folder, since Ray keeps them forever.

A lock file in the folder of a session shows that Winnow started it; the lock is held while its driver lives. The folders of other
programs are not touched.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from winnow.search.ray_backend.watchdog import LOCK
from winnow.search.storage.leftovers import sweep_unused


def sweep_sessions() -> None:
    """Delete the folders, including logs, of Winnow's sessions whose driver has ended."""
    sweep_unused(_sessions("*"), LOCK)


def mark_session() -> BaseFileLock | None:
    """Mark the session of this process as one of Winnow's. Must be called after Ray has started.

    Returns:
        The lock, to be released after Ray has been shut down; None if the folder cannot be found or written.
    """
    for folder in _sessions(f"*_{os.getpid()}"):  # Ray names the folder after the driver's process
        lock = FileLock(folder / LOCK, thread_local=False)
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            return lock
    return None


def _sessions(ending: str) -> list[Path]:
    """Return the session folders whose names have this ending, the newest first."""
    root = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    with suppress(OSError):
        return sorted(Path(root, "ray").glob(f"session_2{ending}"), reverse=True)
    return []
