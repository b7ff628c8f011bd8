"""Lists a user's own data set by import path: `data: {name: "my_pkg.data:build", arguments: {...}}`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np
from PIL import Image

from winnow.search.data.decode import upright_pixels
from winnow.search.data.foreign import foreign, named, shown
from winnow.search.data.listing import FUNCTION, SPLIT_NAMES, Encoded, Listing, Part, split_of, text_array
from winnow.search.data.table_values import groups_of
from winnow.spaces import own_code, schema
from winnow.spaces.errors import InputError

KEPT_IN_MEMORY = 256 * 2**20
"""Bytes of images from an iterable that are held in memory until they are decoded; more are written to a file."""


def list_own(data: schema.Data, folder: Path) -> Listing:
    """Call the user's function and list what it returns.

    The function is called with `data.arguments`, and with `path` if that is set. It returns one split or a mapping
    {"train": split, "validation": split, "test": split}. A split is (images, labels), or an iterable of (image, label). An image
    is a uint8 array [H, W] or [H, W, C], a PIL image, the bytes of a file, or a path. A label is an integer or a text.

    Args:
        data: The `data` section of a config; it names the function and its arguments.
        folder: Folder for the images of an iterable until they are decoded, if they take too much memory.

    Raises:
        InputError: The function cannot be called, or returns something else.
    """
    arguments = {**data.arguments, **({} if data.path is None else {"path": data.path})}
    made = own_code.call("data set", data.name, arguments)
    splits = made if isinstance(made, Mapping) else {"train": made}
    parts: dict[str, Part] = {}
    hashes: dict[str, str] = {}
    for name, value in splits.items():
        split = split_of(str(name))
        if split is None:
            raise InputError(f"data set {data.name}: returned a split {name!r}; allowed: {', '.join(SPLIT_NAMES)}")
        if split in parts:
            raise InputError(f"data set {data.name}: returned two {split} splits ({named(list(map(str, splits)))})")
        parts[split], hashes[split] = _part(value, f"data set {data.name}, {split}", data, folder)
    if "train" not in parts:
        raise InputError(
            f"data set {data.name}: returned {', '.join(map(str, splits)) or 'nothing'}, but no train split"
        )
    return Listing(
        parts, FUNCTION, files=(), source_key=json.dumps(hashes), notes=(f"images and classes from {data.name}",)
    )


def _part(value: Any, where: str, data: schema.Data, folder: Path) -> tuple[Part, str]:
    """Return a split, and a hash of everything in it. The images of an iterable are never all in memory."""
    kept, labels = _Kept(folder), []
    for row, (image, label) in enumerate(_pairs(value, where)):
        kept.add(_content(image, f"{where}, image {row}", data), f"{where}, image {row}")
        labels.append(label)
    groups = None
    if data.groups is not None:
        if not any(isinstance(place, Path) for place in kept.places):
            raise InputError(f"{where}: data.groups: the images have no paths to search in; return them as paths")
        groups = groups_of([shown(place) if isinstance(place, Path) else "" for place in kept.places], data.groups)
    numbers = _labels(labels, where)
    return Part(numbers, _KeptItems(kept, where), groups), kept.hash_with(numbers.tolist())


def _pairs(value: Any, where: str) -> Iterator[tuple[Any, Any]]:
    """Yield (image, label) of every image."""
    try:
        if isinstance(value, tuple) and len(value) == 2 and not _is_pair_of_one(value):
            images, labels = value
            if hasattr(images, "__len__") and hasattr(labels, "__len__") and len(images) != len(labels):
                raise InputError(f"{where}: {len(images)} images, but {len(labels)} labels")
            # Turns the elements of arrays, tensors and data frames into Python's own numbers and texts.
            labels = labels.tolist() if hasattr(labels, "tolist") else labels
            yield from zip(images, labels, strict=True)
        elif isinstance(value, np.ndarray):
            raise TypeError("it is ndarray")
        else:
            yield from map(_pair, value)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # what Python raises if a value cannot be iterated over or unpacked
        raise InputError(
            f"{where}: must be (images, labels), or an iterable of (image, label) ({type(error).__name__}: {error})"
        ) from error
    except (Exception, SystemExit) as error:  # the iterable is user code
        raise InputError(f"{where}: raised {type(error).__name__}: {error}") from error


def _pair(value: Any) -> tuple[Any, Any]:
    """Unpack a pair. A dictionary or text of length two is refused, since it would be unpacked into its keys or letters."""
    if not isinstance(value, tuple | list):
        raise TypeError(f"one is {type(value).__name__}")
    image, label = value
    return image, label


def _is_pair_of_one(value: tuple[Any, Any]) -> bool:
    """Return whether a tuple is an iterable of two (image, label) pairs rather than (images, labels)."""
    return all(isinstance(item, tuple) and len(item) == 2 for item in value)


def _content(image: Any, where: str, data: schema.Data) -> bytes | Path | np.ndarray:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, Image.Image):
        with foreign(where, "image"):
            image = upright_pixels(image)
    if not isinstance(image, np.ndarray):
        raise InputError(f"{where}: is {type(image).__name__}; an array, a PIL image, bytes or a path is needed")
    image = image[..., None] if image.ndim == 2 else image
    is_wide = image.dtype.kind in "iuf" and image.dtype != np.uint8
    advice = "; state which values are black and white: data.pixel_range: [black, white]" if is_wide else ""
    is_usable = image.dtype == np.uint8 or (is_wide and data.pixel_range is not None)
    if not is_usable or image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise InputError(
            f"{where}: must be uint8 [H, W] or [H, W, C] with 1, 3 or 4 channels, but is {image.dtype} {list(image.shape)}{advice}"
        )
    return image


class _Kept:
    """The images of a split as the user's code returned them: in memory, or in a file that is removed with this object."""

    def __init__(self, folder: Path) -> None:
        self.places: list[Path | tuple[int, int, np.dtype[Any] | None, tuple[int, ...]]] = []
        """Where each image is: its path, or offset and length in the file in bytes, with type and shape if it is an array."""
        self._folder = folder
        self._file = SpooledTemporaryFile(max_size=KEPT_IN_MEMORY, dir=str(folder))  # noqa: SIM115, it lives as long as this
        self._digest = hashlib.sha256()
        self._end = 0

    def add(self, content: bytes | Path | np.ndarray, where: str) -> None:
        if isinstance(content, Path):
            self.places.append(content)
            with foreign(where, "image"):  # a path that is not a file is reported when it is decoded
                data = content.read_bytes() if os.path.isfile(content) else shown(content).encode()
            self._digest.update(hashlib.sha256(data).digest())
            return
        dtype: np.dtype[Any] | None = None
        shape: tuple[int, ...] = ()
        if isinstance(content, np.ndarray):
            dtype, shape, raw = content.dtype, content.shape, content.tobytes()
            self._digest.update(f"{dtype} {shape}".encode())
        else:
            raw = content
        self._digest.update(hashlib.sha256(raw).digest())
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file.write(raw)
        except OSError as error:
            raise InputError(
                f"{shown(self._folder)}: the images of a data set cannot be stored here ({error.strerror or error}); choose "
                "another --data-dir"
            ) from error
        self.places.append((self._end, len(raw), dtype, shape))
        self._end += len(raw)

    def name(self, row: int, where: str) -> str:
        """Return the name of an image for messages: its path, or its number if it has none."""
        place = self.places[row]
        return shown(place) if isinstance(place, Path) else f"{where}, image {row}"

    def content(self, row: int) -> bytes | Path | np.ndarray:
        """Return an image as `add` received it."""
        place = self.places[row]
        if isinstance(place, Path):
            return place
        start, length, dtype, shape = place
        self._file.seek(start)
        raw = self._file.read(length)
        return raw if dtype is None else np.frombuffer(raw, dtype).reshape(shape)

    def hash_with(self, labels: list[Any]) -> str:
        digest = self._digest.copy()
        digest.update(json.dumps(labels).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class _KeptItems:
    """The images of a split, named by their paths or by `where` and their row."""

    kept: _Kept
    where: str

    def __call__(self, rows: Sequence[int]) -> Iterator[Encoded]:
        return (Encoded(self.kept.name(row, self.where), self.kept.content(row)) for row in rows)

    def names(self, rows: Sequence[int]) -> list[str]:
        return [self.kept.name(row, self.where) for row in rows]


def _labels(labels: list[Any], where: str) -> np.ndarray:
    values = [label.item() if isinstance(label, np.generic) else label for label in labels]
    if values and all(isinstance(value, str) for value in values):
        return text_array(values)
    wrong = [value for value in values if not isinstance(value, int) or isinstance(value, bool)]
    if wrong:
        raise InputError(f"{where}: labels must be all integers or all text, but one is {wrong[0]!r}")
    large = [value for value in values if abs(value) > np.iinfo(np.int64).max]
    if large:
        raise InputError(f"{where}: the label {large[0]} is too large for a class number; write classes as text")
    return np.array(values, dtype=np.int64)
