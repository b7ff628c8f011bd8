"""Checks files of arrays and tables before they are unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from winnow.spaces.errors import InputError

LARGE, MOST_EXPANSION = 10**9, 200
"""Unpacked bytes above which an archive is checked, and the largest factor by which real images and predictions grow when unpacked."""


def check_expansion(path: Path) -> None:
    """Check that an archive does not grow far more than real arrays do, before anything is unpacked.

    Args:
        path: The file. One that is missing or no zip archive is left to the code that reads it.

    Raises:
        InputError: It does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return
    if is_bomb(path, unpacked):
        raise InputError(
            f"{path}: unpacks to {unpacked / 1e9:.1f} GB from {path.stat().st_size / 1e6:.1f} MB, which real arrays do not; if it is "
            "right, write it without compression: np.savez"
        )


def is_bomb(path: Path, unpacked: int) -> bool:
    """Return whether a file would grow far more than real images, predictions and names do.

    Args:
        path: The file.
        unpacked: Its size in bytes once it is unpacked.
    """
    return unpacked > LARGE and unpacked > MOST_EXPANSION * path.stat().st_size
