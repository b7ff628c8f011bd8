"""Reads whole files of a run, and finds those that its records name."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Any

from winnow.spaces.errors import InputError


def is_present(path: Path) -> bool:
    """Return whether there is a file. A folder of somebody else may hold something else there, such as a pipe, which would block forever.

    Args:
        path: The file, or a symbolic link to one.

    Raises:
        InputError: There is something else than a file.
    """
    if path.is_file():
        return True
    if path.exists():
        raise InputError(f"{path}: not a file")
    return False


def content_of(path: Path) -> bytes:
    """Read a file of a run.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def file_in(folder: Path, name: Any) -> Path:
    """Return the path of a file that a record of a folder names. Whether it exists is left to the code that reads it.

    A folder that somebody else made must not lead to other files.

    Args:
        folder: The folder, such as a run.
        name: The name that the record holds.

    Raises:
        InputError: It is not the name of a file in the folder.
    """
    if not isinstance(name, str) or PurePath(name).is_absolute() or ".." in PurePath(name).parts:
        raise InputError(
            f"{folder}: damaged: its records name {name!r}, which is not the path of a file in this folder"
        )
    path = folder / name
    is_present(path)
    return path
