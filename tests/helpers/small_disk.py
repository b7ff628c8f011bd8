"""Small file systems that run full, as root may mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, megabytes: int = 8, files: int = 500) -> Iterator[None]:
    """Make a folder a small file system; skips the test where that is not possible."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,nr_inodes={files}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def fill_with_bytes(folder: Path) -> None:
    """Write until nothing more fits."""
    with (folder / "other-people").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def fill_with_files(folder: Path) -> None:
    """Create files until no further one is possible."""
    with suppress(OSError):
        for number in count():
            (folder / f"other-{number}").touch()
