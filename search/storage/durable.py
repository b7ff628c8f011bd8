"""Renames that a power cut does not take back, and files that are whole under their name."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write_whole(temporary: Path, path: Path, content: bytes | memoryview) -> None:
    """Write a file under a temporary name, then give it its own: readers, and a power cut, find the old file or the new one.

    Args:
        temporary: A name in the same folder that nobody else uses.
        path: The name of the file, which may exist.
        content: All of the file.

    Raises:
        OSError: It cannot be written; the temporary file may be left.
    """
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else the new name could be on an empty file
    os.replace(temporary, path)
    sync_folder(path.parent)


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
