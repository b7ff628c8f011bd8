"""Publishes finished files and folders: a reader never finds an incomplete one under its name, even after a power failure."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

NAME_KEPT = 40
"""Number of characters of a name that its temporary name repeats. A character has up to 4 bytes, and file systems allow 255 bytes."""


def write_whole(path: Path, write: Callable[[Path], object], temporary: Path | None = None) -> None:
    """Fill a temporary file beside `path`, then publish it. At any time, even after a power failure, `path` is the old or the new file.

    Args:
        path: The file, which may exist.
        write: Called with the path of the file to fill.
        temporary: A name in the same folder that no other process uses. Default: a name with the id of this process.

    Raises:
        OSError: The file cannot be written.
    """
    part = temporary or part_of(path)
    try:
        write(part)
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return a temporary name beside `path` with the id of this process. It is valid even if `path` has the longest possible name."""
    return path.with_name(f".{path.name[:NAME_KEPT]}.{os.getpid()}")


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
