"""The one way to publish a finished file or folder: under its name it is whole, also after a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

NAME_KEPT = 40
"""Characters of a name, of at most 4 bytes, that its temporary name repeats. File systems allow 255 bytes."""


def write_whole(path: Path, write: Callable[[Path], object], temporary: Path | None = None) -> None:
    """Fill a file beside `path`, then publish it: readers, and a power cut, find the old file or the new one.

    Args:
        path: The file, which may exist.
        write: Called with the path of the file to fill.
        temporary: A name in the same folder that nobody else uses. Default: one with the id of this process.

    Raises:
        OSError: It cannot be written.
    """
    part = temporary or part_of(path)
    try:
        write(part)
        publish(part, path)
    finally:
        part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Return the temporary name beside `path`, with the id of this process; it fits also if `path` has the longest possible name."""
    return path.with_name(f".{path.name[:NAME_KEPT]}.{os.getpid()}")


def publish(part: Path, path: Path) -> None:
    """Give a finished file or folder its name once its content is on the disk, and wait until the name is there too.

    Args:
        part: The file or folder, in the same folder as `path`.
        path: Its name. A file there is replaced.

    Raises:
        OSError: The disk fails.
    """
    _sync(part)  # else the new name could be on an empty file
    os.replace(part, path)
    sync_folder(path.parent)  # else a power cut could take the name back


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk: a file that was renamed has its old name until then.

    Raises:
        OSError: The disk fails.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems open no folders
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folders
            raise
    finally:
        os.close(handle)


def _sync(part: Path) -> None:
    """Wait until a file, or a folder with all that lies in it, is on the disk."""
    if part.is_dir():
        for entry in part.iterdir():
            _sync(entry)
        sync_folder(part)
        return
    with part.open("r+b") as file:
        os.fsync(file.fileno())
