"""Reads whole files of a run."""

from __future__ import annotations

from pathlib import Path

from winnow.spaces.errors import InputError


def content_of(path: Path) -> bytes:
    """Read a file of a run.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
