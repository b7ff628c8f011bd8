"""Puts large arrays into memory if enough is free, else into files that the operating system pages in and out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import psutil

from winnow.search.data.foreign import shown
from winnow.spaces.errors import InputError

MEMORY_SHARE = 0.25
"""Fraction of the free memory; images that take more stay on the disk."""


def fits_in_memory(num_bytes: int) -> bool:
    """Return whether arrays of this size are held in memory."""
    return num_bytes <= MEMORY_SHARE * free_memory()


def free_memory() -> int:
    """Return the bytes that a process can still take, within the limits of its container."""
    available = psutil.virtual_memory().available
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        return max(0, min(available, limit - int(Path("/sys/fs/cgroup/memory.current").read_text())))
    except (OSError, ValueError):  # no limit
        return available


def room_note(num_bytes: int, folder: Path) -> str:
    """Describe where decoded images will be kept, and how much room there is.

    Args:
        num_bytes: Size of the decoded images in bytes.
        folder: Folder of the cache; it need not exist.

    Returns:
        A phrase with the size, the place, and the free memory.

    Raises:
        InputError: The images fit neither into memory nor, twice, on the disk.
    """
    size = size_text(num_bytes)
    if fits_in_memory(num_bytes):
        return f"{size} decoded, held in memory ({size_text(free_memory())} are free), and the same amount in {shown(folder)}"
    # While the images are sorted there are two copies; the first is deleted when the second is complete.
    _require_disk(2 * num_bytes, folder)
    return f"{size} decoded, mapped from files in {shown(folder)}, since {size_text(free_memory())} of memory are free"


def _require_disk(num_bytes: int, folder: Path) -> None:
    place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise InputError(
            f"{shown(folder)}: the decoded images take {size_text(num_bytes)}, but {size_text(free)} are free on this disk; "
            "choose another --data-dir, or a smaller data.image_size or data.limit"
        )


def allocate(shape: tuple[int, ...], folder: Path | None, name: str) -> np.ndarray:
    """Allocate an array of type uint8 in memory, or in a new file if it would take too much memory.

    Args:
        shape: Shape of the array.
        folder: Folder of the file, created if it is missing; None: always in memory.
        name: Name of the file, without `.npy`.

    Returns:
        The array; its values are undefined.

    Raises:
        InputError: The array fits neither into memory nor on the disk, or the file cannot be
            written.
    """
    num_bytes = int(np.prod(shape, dtype=np.int64))
    if folder is None or fits_in_memory(num_bytes):
        return np.empty(shape, dtype=np.uint8)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _require_disk(num_bytes, folder)
        return np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype=np.uint8, shape=shape)
    except OSError as error:
        raise InputError(
            f"{shown(folder)}: the decoded images take {size_text(num_bytes)}, too much for the memory, and cannot be written "
            f"here ({error.strerror or error}); choose another --data-dir"
        ) from error


def size_text(num_bytes: float) -> str:
    """Return a size in words, such as `1.5 GB`."""
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
