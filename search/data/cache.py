"""Keeps decoded images on disk: decoding 60,000 CIFAR images takes half a minute, reading them back half a second."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from filelock import FileLock, Timeout

from winnow.reports.durable import entries, is_abandoned, part_of, remove
from winnow.search.data.arrays import Arrays, SplitArrays
from winnow.search.data.decode import in_threads
from winnow.search.data.foreign import read_chunks
from winnow.search.data.locking import locked
from winnow.search.data.space_left import fits_in_memory

FORMAT = 6
"""Version of the cache. Increase it when a reader or decoder produces different arrays from the same files."""


def cached(folder: Path, key: str, build: Callable[[Path], Arrays]) -> Arrays:
    """Return the arrays that `build` made earlier for the same key, or build them now.

    One process at a time decodes; the others wait and read its result. A folder that cannot be written to is not an error, and
    damaged files are built again.

    Args:
        folder: Folder of the cache, with one folder per key.
        key: Key from `content_key`.
        build: Called with the path of a new folder, into which it may put large arrays.
    """
    path = folder / key
    stored = _read(path)
    if stored is not None:
        return stored
    _sweep(folder)
    with locked_folder(path):
        stored = _read(path)
        if stored is not None:
            return stored
        scratch = part_of(path)
        try:
            arrays = build(scratch)
            with suppress(OSError):
                _write(scratch, arrays)
                shutil.rmtree(path, ignore_errors=True)
                os.rename(scratch, path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return (_read(path, is_new=True) or arrays) if not fits_in_memory(arrays.num_bytes) else arrays


def content_key(files: Sequence[Path], options: dict[str, Any]) -> str:
    """Compute the cache key of the arrays that are read from some files.

    The key depends on the content of the files and not on their paths. Files that cannot be read
    are included as unreadable; decoding reports them.

    Args:
        files: Files that decide what the arrays are, in a fixed order.
        options: Everything else that decides it, as JSON values.

    Returns:
        24 hex digits.
    """
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, options], sort_keys=True).encode())
    for content in in_threads(_digest, iter(files)):
        digest.update(content)
    return digest.hexdigest()[:24]


def _digest(file: Path) -> bytes:
    """Return the hash of a file. A file that is missing or not a regular file is reported when it is decoded."""
    digest = hashlib.sha256()
    try:
        for chunk in read_chunks(file):
            digest.update(chunk)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return b"unreadable"
    return digest.digest()


def _sweep(folder: Path) -> None:
    """Delete the arrays that killed processes left unfinished, for any key. A living process, perhaps in another container, locks its key."""
    for scratch in filter(is_abandoned, entries(folder)):
        lock = _lock_of(folder / scratch.stem[1:])
        if lock.is_file():
            with suppress(Timeout, OSError), FileLock(lock, timeout=0):
                remove(scratch)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lock")


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold the lock of a folder in the cache. If it cannot be created, hold none: no process can write the files there either.

    Args:
        path: The folder of a key, which need not exist.
    """
    with ExitStack() as stack:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(_lock_of(path)))
        yield


def _read(path: Path, is_new: bool = False) -> Arrays | None:
    """Read a folder of arrays; None if it is missing or damaged: the fingerprint must be the one that was written.

    With `is_new` the fingerprint is not compared, since this process has just written the folder.
    """
    try:
        about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        mapped: Literal["r"] | None = None if fits_in_memory(about["num_bytes"]) else "r"
        splits = {
            split: SplitArrays(
                images=np.load(path / f"{split}_images.npy", mmap_mode=mapped),
                **{kind: np.load(path / f"{split}_{kind}.npy") for kind in kinds},
            )
            for split, kinds in about["splits"].items()
        }
        arrays = Arrays(splits, tuple(about["class_names"]), tuple(about["notes"]))
        if is_new:
            arrays.__dict__["fingerprint"] = about["fingerprint"]  # as cached_property keeps it
        return arrays if about["fingerprint"] == arrays.fingerprint else None
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _write(path: Path, arrays: Arrays) -> None:
    path.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, list[str]] = {}
    for name, split in arrays.splits.items():
        kinds[name] = ["labels", "records", *(["groups"] if split.groups is not None else [])]
        for kind in ("images", *kinds[name]):
            file, array = path / f"{name}_{kind}.npy", getattr(split, kind)
            if isinstance(array, np.memmap) and Path(str(array.filename)) == file:
                array.flush()
            else:
                np.save(file, array)
    for file in path.glob("*_decoded.npy"):  # arrays in the order of the files, which were copied into the final order
        file.unlink()
    about = {
        "splits": kinds,
        "num_bytes": arrays.num_bytes,
        "class_names": arrays.class_names,
        "notes": arrays.notes,
        "fingerprint": arrays.fingerprint,
    }
    (path / "about.json").write_text(json.dumps(about), encoding="utf-8")
