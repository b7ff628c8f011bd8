"""Removes the leftovers of killed processes: half-written files with temporary names, and folders."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OF_PROCESS = re.compile(r"\..+\.(\d+)")  # `.study.yaml.4711`, written by process 4711
# The end is random, since processes on two nodes may have the same id.
OF_WORKER = re.compile(r"\.(trial-\d+|winner-.+|.+-s\d+)\.(pt|npz)\.[0-9a-f]{8}")
HEARTBEAT = re.compile(r"\.(trial|retraining)-.+\.beat")
NEW_RUN = re.compile(r"\..+\.(\d+)-\d+")  # a run folder that process 4711 was creating: `.digits.4711-140234`
OLD_SECONDS = 600.0
"""Age in seconds from which a folder without a process on this machine is a leftover. A newer one may belong to another machine."""


def sweep_run(path: Path) -> None:
    """Delete the half-written files of a run. Call it while holding the lock of the run, so that none of its workers is alive.

    Args:
        path: The run folder.
    """
    for folder in (path, path / "checkpoints", path / "predictions", path / "report"):
        for file in _entries(folder):
            of_process = OF_PROCESS.fullmatch(file.name)
            of_worker = OF_WORKER.fullmatch(file.name) or HEARTBEAT.fullmatch(file.name)
            if of_worker or (of_process and not _is_alive(int(of_process[1]))):
                with suppress(OSError):
                    file.unlink()


def sweep_new_runs(parent: Path) -> None:
    """Delete unfinished run folders of killed processes.

    Args:
        parent: The folder of the run folders.
    """
    for folder in _entries(parent):
        match = NEW_RUN.fullmatch(folder.name)
        if match and folder.is_dir() and _is_old(folder) and not _is_alive(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """Create a temporary folder that is removed at the end of the context, after removing those that killed processes left.

    A lock, not a process id, shows which of them are in use, since processes of another container may have made them.

    Args:
        prefix: Beginning of the name, the same for all such folders.
    """
    from filelock import FileLock, Timeout

    for folder in _entries(Path(tempfile.gettempdir())):
        lock = folder / ".lock"
        if folder.name.startswith(prefix) and not folder.is_symlink() and lock.is_file():
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
    path = tempfile.mkdtemp(prefix=prefix)
    try:
        with FileLock(Path(path) / ".lock"):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_old(folder: Path) -> bool:
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime > OLD_SECONDS
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True
