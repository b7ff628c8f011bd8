"""Removes the leftovers of killed processes: half-written files and folders with temporary names, and temporary folders."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.reports.durable import part_of
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

OF_PROCESS = re.compile(r"\..+\.(\d+)")  # `.study.yaml.4711`, written by process 4711
# The end is random, since processes on two nodes may have the same id.
OF_WORKER = re.compile(r"\.(trial-\d+|winner-.+|.+-s\d+)\.(pt|npz)\.[0-9a-f]{8}")
HEARTBEAT = re.compile(r"\.(trial|retraining)-.+\.beat")
NEW_RUN = re.compile(r"\..+\.(\d+)-\d+")  # a run folder that process 4711 was creating: `.digits.4711-140234`
LOCK = ".lock"
"""File in a folder that a process keeps locked while it uses the folder. Process ids alone are not enough: containers repeat them."""
TEMPORARY = "winnow-"
"""Beginning of the name of every temporary folder."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
OLD_SECONDS = 600.0
"""Age in seconds from which a folder without a process on this machine is a leftover. A newer one may belong to another machine."""


def sweep_run(path: Path, shared: Path | None = None) -> None:
    """Delete what killed processes were writing for a run. Call it while holding the lock of the run, so that none of its workers is alive.

    Args:
        path: The run folder.
        shared: The folder to which its workers write. Default: the run folder.
    """
    for root in {path, shared or path}:
        for folder in (root, root / "checkpoints", root / "predictions", root / "report"):
            for entry in _entries(folder):
                of_worker = OF_WORKER.fullmatch(entry.name) or HEARTBEAT.fullmatch(entry.name)
                if of_worker or _is_abandoned(entry):
                    _remove(entry)


def sweep_parts(path: Path) -> None:
    """Delete what killed processes left beside a file or folder while they were writing it.

    Args:
        path: The file or folder, which need not exist.
    """
    own = part_of(path).stem
    for entry in _entries(path.parent):
        if entry.stem == own and _is_abandoned(entry):
            _remove(entry)


def sweep_new_runs(parent: Path) -> None:
    """Delete unfinished run folders of killed processes.

    Args:
        parent: The folder of the run folders.
    """
    for folder in _entries(parent):
        match = NEW_RUN.fullmatch(folder.name)
        if match and folder.is_dir() and _is_old(folder) and not _is_alive(int(match[1])):
            shutil.rmtree(folder, ignore_errors=True)


def lock_of(folder: Path) -> BaseFileLock:
    """Return the lock that a process holds while it uses a folder, so that no other process deletes the folder as a leftover.

    Args:
        folder: The folder.
    """
    from filelock import FileLock

    return FileLock(folder / LOCK, thread_local=False)


def sweep_unused(folders: Iterable[Path], lock_name: str = LOCK) -> None:
    """Delete those of some folders whose processes have ended. Folders of other users, symbolic links, and folders without a lock file stay.

    Args:
        folders: The folders, which need not exist.
        lock_name: Name of the file in each of them that its process keeps locked.
    """
    from filelock import FileLock, Timeout

    for folder in folders:
        lock = folder / lock_name
        with suppress(Timeout, OSError):
            if folder.is_symlink() or lock.is_symlink() or lock.stat().st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)


def sweep_temporary() -> None:
    """Delete the temporary folders, of any purpose, of this user's processes that have ended."""
    folders = _entries(Path(tempfile.gettempdir()))
    # Those with a dot were being made; a new one may not be locked yet.
    unfinished = [folder for folder in folders if folder.name.startswith(f".{TEMPORARY}") and _is_old(folder)]
    sweep_unused([*unfinished, *(folder for folder in folders if folder.name.startswith(TEMPORARY))])


@contextmanager
def temporary_folder(purpose: str) -> Iterator[str]:
    """Create a temporary folder that is removed at the end of the context. Those that killed processes left are removed first.

    Args:
        purpose: A word for its name, such as `tune`.
    """
    sweep_temporary()
    new = Path(tempfile.mkdtemp(prefix=f".{TEMPORARY}{purpose}-"))
    folder = new.with_name(new.name[1:])
    try:
        with lock_of(new):
            # Other processes look for this name, and must find it locked.
            new.rename(folder)
            yield str(folder)
    finally:
        for left in (new, folder):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def temporary_errors(way_on: str) -> Iterator[None]:
    """Turn an error of the disk with the temporary files into one message. Nothing else may be written within the context.

    Args:
        way_on: What to do once there is room, such as a command.

    Raises:
        InputError: The temporary files cannot be written. Ray Tune raises its own error for this.
    """
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None and not (isinstance(link, OSError) and link.errno in DISK_ERRORS):
            link = link.__cause__ or link.__context__
        if not isinstance(link, OSError) or isinstance(error, InputError):
            raise
        raise InputError(
            f"TMPDIR={tempfile.gettempdir()}: the temporary files of this command cannot be written ({link.strerror}); nothing "
            f"is lost. Free some space there, or set TMPDIR to another folder, then: {way_on}"
        ) from error


def _is_abandoned(entry: Path) -> bool:
    """Return whether a dead process was writing a file or folder under this temporary name."""
    match = OF_PROCESS.fullmatch(entry.name)
    return match is not None and not _is_alive(int(match[1])) and not _is_locked(entry / LOCK)


def _is_locked(lock: Path) -> bool:
    """Return whether a process holds a lock file; False if there is none."""
    from filelock import FileLock, Timeout

    if not lock.is_file():
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError):
        return True


def _remove(entry: Path) -> None:
    """Delete a file, a symbolic link, or a folder with its content."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
        return
    with suppress(OSError):
        entry.unlink()


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
