"""Publishes finished files and folders: a reader never finds an incomplete one under its name, even after a power failure.

What a killed process left of an unfinished one is deleted by the next that writes the same file or folder.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

NAME_KEPT = 40
"""Number of characters of a name that its temporary name repeats. A character has up to 4 bytes, and file systems allow 255 bytes."""
OF_PROCESS = re.compile(r"\..+\.(\d{1,7})")
"""A name from `part_of`: `.study.yaml.4711`, written by process 4711. A longer number, such as a date, is no process id."""
OLD_SECONDS = 600.0
"""Age in seconds from which a file or folder without a process on this machine is a leftover. A newer one may belong to another machine."""
LOCK = ".lock"
"""File in a folder that a process keeps locked while it uses the folder. Process ids alone are not enough: containers repeat them."""


def write_whole(path: Path, write: Callable[[Path], object], temporary: Path | None = None) -> None:
    """Fill a temporary file beside `path`, then publish it. At any time, even after a power failure, `path` is the old or the new file.

    Without `temporary`, what killed processes left of the same file is deleted first.

    Args:
        path: The file, which may exist.
        write: Called with the path of the file to fill.
        temporary: A name in the same folder that no other process uses. Default: a name with the id of this process.

    Raises:
        OSError: The file cannot be written.
    """
    if temporary is None:
        sweep_parts(path)
    part = temporary or part_of(path)
    try:
        write(part)
        publish(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def part_of(path: Path) -> Path:
    """Return a temporary name beside `path` with the id of this process. It is valid even if `path` has the longest possible name."""
    return path.with_name(f".{path.name[:NAME_KEPT]}.{os.getpid()}")


def sweep_parts(path: Path) -> None:
    """Delete what killed processes left beside a file or folder while they were writing it, once it is old.

    Args:
        path: The file or folder, which need not exist.
    """
    own = part_of(path).stem
    for entry in entries(path.parent):
        if entry.stem == own and is_old(entry) and is_abandoned(entry):
            remove(entry)


def is_abandoned(entry: Path) -> bool:
    """Return whether a file or folder has a name as `part_of` gives it, and no process of this machine has that id."""
    match = OF_PROCESS.fullmatch(entry.name)
    return match is not None and not is_alive(int(match[1])) and not _is_locked(entry / LOCK)


def is_old(entry: Path) -> bool:
    """Return whether a file or folder was last changed more than `OLD_SECONDS` ago."""
    with suppress(OSError):
        return time.time() - entry.stat().st_mtime > OLD_SECONDS
    return False


def is_alive(process_id: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(process_id, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process belongs to another user
        return True
    return True


def entries(folder: Path) -> list[Path]:
    """Return the entries of a folder; none if it cannot be read."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def remove(entry: Path) -> None:
    """Delete a file, a symbolic link, or a folder with its content. What cannot be deleted stays."""
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
        return
    with suppress(OSError):
        entry.unlink()


def publish(part: Path, path: Path) -> None:
    """Give a finished file or folder its name once its content is on the disk, and wait until the name is on the disk too.

    Args:
        part: The file or folder, in the same folder as `path`.
        path: Its name. A file there is replaced.

    Raises:
        OSError: The disk fails.
    """
    _sync(part)  # otherwise the new name could belong to an empty file
    os.replace(part, path)
    sync_folder(path.parent)  # otherwise a power failure could undo the renaming


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, and wait until their names are on the disk.

    A folder that exists may have been created by a process that was killed before it waited, so its name is waited for too.

    Args:
        folder: The folder.

    Raises:
        OSError: The disk fails.
    """
    missing = [path for path in folder.parents if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder, *missing):
        sync_folder(path.parent)  # otherwise a power failure could take the new folders with all that is in them


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk. Until then, a power failure could undo a renaming.

    Raises:
        OSError: The disk fails.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems cannot open folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot sync folders
            raise
    finally:
        os.close(handle)


def _sync(part: Path) -> None:
    """Wait until a file, or a folder with all its contents, is on the disk."""
    if part.is_dir():
        for entry in part.iterdir():
            _sync(entry)
        sync_folder(part)
        return
    with part.open("r+b") as file:
        os.fsync(file.fileno())


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
