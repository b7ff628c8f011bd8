"""Keeps decoded images on disk: decoding 60,000 CIFAR images takes half a minute, reading them back half a second."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
from filelock import FileLock

from winnow.search.data.arrays import Arrays, SplitArrays
from winnow.search.data.decode import in_threads
from winnow.search.data.foreign import read_chunks
from winnow.search.data.space_left import fits_in_memory

FORMAT = 5
"""Version of the cache. Raise it when a reader or decoder gives other arrays for the same files."""


def cached(folder: Path, key: str, build: Callable[[Path], Arrays]) -> Arrays:
    """Return what `build` gave last time for the same key, or what it gives now.

    One process at a time decodes; others wait and find it done. A folder that cannot be written to is no error, and damaged files
    are made again. Large arrays stay on the disk and are mapped into memory.

    Args:
        folder: Holds one folder per key.
        key: From `content_key`.
        build: Is given a new folder to put large arrays into.
    """
    path = folder / key
    stored = _read(path)
    if stored is not None:
        return stored
    with _locked(path.with_suffix(".lock")):
        stored = _read(path)
        if stored is not None:
            return stored
        scratch = folder / f".{key}.{os.getpid()}"
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
    """Return a name for what is read from these files with these options; it follows from their content, wherever they lie."""
    digest = hashlib.sha256(json.dumps([FORMAT, PIL.__version__, options], sort_keys=True).encode())
    for content in in_threads(_digest, iter(files)):
        digest.update(content)
    return digest.hexdigest()[:24]


def _digest(file: Path) -> bytes:
    """Return the hash of a file. One that is missing or not a regular file shows when it is decoded."""
    digest = hashlib.sha256()
    try:
        for chunk in read_chunks(file):
            digest.update(chunk)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return b"unreadable"
    return digest.digest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock, or none where none can be made: nobody can write the files there either."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _read(path: Path, is_new: bool = False) -> Arrays | None:
    """Read a folder of arrays; None if it is missing or damaged: the fingerprint must be the one that was written.

    `is_new`: this process has just written it, so it is not read again to be compared.
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
    for file in path.glob("*_decoded.npy"):  # in the order of the files; what counts was copied from it
        file.unlink()
    about = {
        "splits": kinds,
        "num_bytes": arrays.num_bytes,
        "class_names": arrays.class_names,
        "notes": arrays.notes,
        "fingerprint": arrays.fingerprint,
    }
    (path / "about.json").write_text(json.dumps(about), encoding="utf-8")
