"""Decoded images on disk: decoding 60,000 CIFAR images takes half a minute, reading them back half a second."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from winnow.search.data.arrays import Arrays

FORMAT = 1
"""Raise it when a reader or decoder gives other arrays for the same files."""


def cached(folder: Path, files: Sequence[Path], options: dict[str, Any], read: Callable[[], Arrays]) -> Arrays:
    """`read()`, or what it gave last time for the same files (name, size, time of change) and options.

    One process at a time decodes; others wait and find it done. A folder that cannot be written to is no error, and a damaged
    file is read anew.
    """
    path = folder / f"{_key(files, options)}.npz"
    stored = _read(path)
    if stored is not None:
        return stored
    with _locked(path.with_suffix(".lock")):
        stored = _read(path)
        if stored is not None:
            return stored
        arrays = read()
        with suppress(OSError):
            _write(path, arrays)
    return arrays


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Where no lock can be made, nobody can write the file either."""
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


def _key(files: Sequence[Path], options: dict[str, Any]) -> str:
    stats = [(path.parent.name, path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(json.dumps([FORMAT, options, stats]).encode()).hexdigest()[:24]


def _read(path: Path) -> Arrays | None:
    """None if it is not there, or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return Arrays(**{**values, "class_names": tuple(values["class_names"].tolist())})


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = {field.name: getattr(arrays, field.name) for field in fields(arrays)}
    stored: dict[str, Any] = {name: np.asarray(value) for name, value in values.items() if value is not None}
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    try:
        np.savez(temporary, **stored)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
