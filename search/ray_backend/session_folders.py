"""Deletes the session folders that earlier runs of Winnow left in Ray's temporary folder, since Ray keeps them forever.

A lock file in the folder of a session shows that Winnow started it; the lock is held while its driver lives. A driver that was killed
while Ray started left no lock file; its folder is recognized by its place in Winnow's own folder. The folders of other programs are not
touched.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from winnow.search.ray_backend.local_start import private_folder, usual_temporary
from winnow.search.ray_backend.watchdog import LOCK
from winnow.search.storage.leftovers import sweep_unmarked, sweep_unused


def sweep_sessions() -> None:
    """Delete the folders, including logs, of Winnow's sessions whose driver has ended."""
    # Before Winnow had a folder of its own, its sessions were in Ray's usual one.
    for root in {_root(), usual_temporary()}:
        sweep_unused(_sessions(root, "*"), LOCK)
    root = _root()
    if sys.platform != "win32" and root == private_folder(os.path.dirname(root)):
        sweep_unmarked(_sessions(root, "*"), LOCK)


def mark_session() -> BaseFileLock | None:
    """Mark the session of this process as one of Winnow's. Must be called after Ray has started.

    Returns:
        The lock, to be released after Ray has been shut down; None if the folder cannot be found or written.
    """
    for folder in _sessions(_root(), f"*_{os.getpid()}"):  # Ray names the folder after the driver's process
        lock = FileLock(folder / LOCK, thread_local=False)
        with suppress(Timeout, OSError):
            lock.acquire(timeout=0)
            return lock
    return None


def _root() -> str:
    return os.environ.get("RAY_TMPDIR") or usual_temporary()


def _sessions(root: str, ending: str) -> list[Path]:
    """Return the session folders below a folder whose names have this ending, the newest first."""
    with suppress(OSError):
        return sorted(Path(root, "ray").glob(f"session_2{ending}"), reverse=True)
    return []
