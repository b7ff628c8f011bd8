"""Checks the weight files of an export by their headers, without torch, so that a damaged or hostile file is refused at once."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from winnow.spaces.errors import InputError

WEIGHTS = "weights.safetensors"


def check_exported_weights(folder: Path) -> None:
    """Check the weight files in a folder that `winnow export` wrote. A missing file is left to the code that reads it.

    Args:
        folder: The export; an ensemble has a folder with weights for each network.

    Raises:
        InputError: A file is damaged, or not a file.
    """
    for path in sorted(folder.rglob(WEIGHTS)):
        check_weights(path)


def check_weights(path: Path) -> None:
    """Check the header of a safetensors file: its length, its JSON, and that each tensor lies within the file.

    Args:
        path: The file.

    Raises:
        InputError: It is damaged, or not a file.
    """
    if path.exists() and not path.is_file():  # reading a pipe would block forever
        raise InputError(f"{path}: not a file")
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise InputError(f"{path}: incomplete safetensors file ({error})") from error
