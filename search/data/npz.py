"""Lists data sets in one .npz file: arrays of images and labels by split."""

from __future__ import annotations

import math
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from winnow.reports.reading.archives import check_expansion
from winnow.search.data.foreign import foreign, named, require_file
from winnow.search.data.listing import ARCHIVE, Encoded, Listing, Part, group_texts, text_array
from winnow.search.data.space_left import fits_in_memory
from winnow.search.data.table_values import one_hot_labels, whole_numbers
from winnow.spaces import schema
from winnow.spaces.errors import InputError

ARRAY_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}


def list_npz(path: Path, data: schema.Data) -> Listing:
    """List the arrays of a file.

    Args:
        path: A file with `train_images` uint8 [N, H, W] or [N, H, W, C] and `train_labels` [N], likewise `validation_` (or
            `val_`) and `test_`; Keras' names (`x_train`, `y_train`) are accepted too. `class_names` [K] names integer labels.
        data: The `data` section of a config. Its `groups` names one more array per split: `train_GROUPS` [N].

    Raises:
        InputError: An array is missing, or has another type or shape. Nothing is ever unpickled.
    """
    if not path.exists():
        raise InputError(f"data.path: {path} does not exist; an .npz file is needed")
    values = _arrays(path)
    parts: dict[str, Part] = {}
    notes: list[str] = []
    used = {"class_names"}
    for split in ARRAY_NAMES:
        keys = _keys(values, split, path)
        if keys is not None:
            groups = None if data.groups is None else _groups_key(keys[0], data.groups)
            parts[split] = _part(values, keys, groups, data, path)
            used.update(keys, [groups] if groups else [])
            of_groups = f", groups from `{groups}`" if groups else ""
            notes.append(f"{split}: images from `{keys[0]}`, classes from `{keys[1]}`{of_groups}")
    if "train" not in parts:
        present = named(list(values), 10) or "nothing"
        raise InputError(
            f"{path}: needs the arrays train_images and train_labels (or x_train, y_train), but holds {present}"
        )
    if others := [key for key in values if key not in used]:
        notes.append(f"left out: arrays {named(others, 10)}")
    is_large = any(isinstance(array, _Large) for array in values.values())
    files = (path,) if is_large else None
    return Listing(parts, ARCHIVE, _class_names(values, path), files=files, notes=tuple(notes))


class _Objects:
    """An array of Python objects, which only pickle could read."""

    dtype = np.dtype(object)


@dataclass(frozen=True)
class _Large:
    """An array that takes too much memory, so that its images are read one by one when they are needed."""

    path: Path
    member: str
    start: int
    """Bytes of its header."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def rows(self, rows: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the images with these ascending numbers."""
        num_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        with (
            foreign(str(self.path), ".npz file"),
            zipfile.ZipFile(self.path) as archive,
            archive.open(self.member) as stream,
        ):
            for row in rows:
                stream.seek(self.start + row * num_bytes)
                yield np.frombuffer(stream.read(num_bytes), self.dtype).reshape(self.shape[1:])


_Array = np.ndarray | _Large | _Objects


def _arrays(path: Path) -> dict[str, _Array]:
    require_file(path, ".npz file")
    with foreign(str(path), ".npz file"):
        if path.stat().st_size and not zipfile.is_zipfile(path) and not _is_npy(path):
            raise InputError(f"{path}: not a readable .npz file (it is no zip archive)")
        check_expansion(path)
        stored = np.load(path, allow_pickle=False)
        if isinstance(stored, np.ndarray):
            raise InputError(
                f"{path}: not a readable .npz file (it is a single array, an .npy file under another name)"
            )
        with stored:
            if twice := [name for name, count in Counter(stored.files).items() if count > 1]:
                raise InputError(f"{path}: holds the array {named(twice)} more than once; keep one of them")
            arrays = {name: _array(path, stored, name) for name in stored.files}
            return {name: array for name, array in arrays.items() if array is not None}


def _array(path: Path, stored: np.lib.npyio.NpzFile, name: str) -> _Array | None:
    """Read an array of the archive; None for a file that is not an array."""
    large = _large(path, f"{name}.npy")
    if large is not None:
        return large
    try:
        array: np.ndarray | bytes = stored[name]
        return array if isinstance(array, np.ndarray) else None
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        return _Objects()


def _large(path: Path, member: str) -> _Large | None:
    """Return an array that is too large for the memory and stored image by image; None for any other array."""
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist() or fits_in_memory(archive.getinfo(member).file_size):
            return None
        with archive.open(member) as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                return None
            shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            is_plain = dtype.kind in "iuf" and len(shape) > 2 and not is_fortran
            return _Large(path, member, stream.tell(), shape, dtype) if is_plain else None


def _is_npy(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(6) == b"\x93NUMPY"


def _keys(values: Mapping[str, object], split: str, path: Path) -> tuple[str, str] | None:
    candidates = [keys for name in ARRAY_NAMES[split] for keys in _pairs(name) if keys[0] in values]
    if len(candidates) > 1:
        raise InputError(
            f"{path}: holds {named([c[0] for c in candidates])}, both the {split} images; keep one of them"
        )
    if not candidates:
        alone = [labels for name in ARRAY_NAMES[split] for _, labels in _pairs(name) if labels in values]
        if alone:
            raise InputError(f"{path}: holds {alone[0]}, but no images for it; add them, or leave it out")
        return None
    images, labels = candidates[0]
    if labels not in values:
        raise InputError(f"{path}: holds {images}, but no {labels}")
    return images, labels


def _pairs(name: str) -> tuple[tuple[str, str], ...]:
    """Return the pairs of names that the images and the labels of a split may have."""
    return (f"{name}_images", f"{name}_labels"), (f"x_{name}", f"y_{name}"), (f"X_{name}", f"y_{name}")


def _groups_key(images: str, groups: str) -> str:
    return images.replace("images", groups) if "images" in images else f"{groups}_{images[2:]}"


def _part(
    values: Mapping[str, _Array], keys: tuple[str, str], groups_key: str | None, data: schema.Data, path: Path
) -> Part:
    stored = values[keys[0]]
    images = stored if isinstance(stored, _Large) else _plain(values, keys[0], path)
    _check_images(images, data, f"{path}: {keys[0]}")
    labels = _checked_labels(_plain(values, keys[1], path), len(images), data, f"{path}: {keys[1]}")
    groups = None
    if groups_key is not None:
        if groups_key not in values:
            raise InputError(f"{path}: data.groups: no array `{groups_key}` among {named(list(values), 10)}")
        names = _plain(values, groups_key, path)
        if names.shape != (len(images),):
            raise InputError(
                f"{path}: {groups_key} must be [{len(images)}], one group per image, but is {list(names.shape)}"
            )
        groups = text_array(group_texts(names.tolist(), f"{path}: {groups_key}"))
    return Part(labels, _items(images, f"{path}: {keys[0]}"), groups)


def _plain(values: Mapping[str, _Array], key: str, path: Path) -> np.ndarray:
    array = values[key]
    if isinstance(array, _Large):
        raise InputError(f"{path}: {key} is {array.dtype} {list(array.shape)}, too much for the memory")
    if isinstance(array, _Objects):
        raise InputError(
            f"{path}: {key} is an array of Python objects, which is never unpickled; store numbers or text: "
            "np.array(..., dtype=...)"
        )
    return array


def _items(images: np.ndarray | _Large, where: str) -> Callable[[Sequence[int]], Iterable[Encoded]]:
    def items(rows: Sequence[int]) -> Iterator[Encoded]:
        chosen = images.rows(rows) if isinstance(images, _Large) else (images[row] for row in rows)
        for row, image in zip(rows, chosen, strict=True):
            yield Encoded(f"{where}, image {row}", image if image.ndim == 3 else image[..., None])

    return items


def _check_images(images: np.ndarray | _Large, data: schema.Data, where: str) -> None:
    """Check images: [N, H, W] or [N, H, W, C], C in 1, 3 (colour) or 4 (with transparency); uint8, or numbers that data.pixel_range scales."""
    shape = images.shape
    if len(shape) != 3 and (len(shape) != 4 or shape[3] not in (1, 3, 4)):
        channels_first = len(shape) == 4 and shape[1] in (1, 3, 4)
        hint = "; its channels come first: transpose it with images.transpose(0, 2, 3, 1)" if channels_first else ""
        raise InputError(
            f"{where} must be uint8 [N, H, W] or [N, H, W, C] with 1, 3 or 4 channels, but is {images.dtype} "
            f"{list(shape)}{hint}"
        )
    if len(shape) == 4 and (shape[1] in (1, 3) or shape[1] == shape[3] == 4):
        advice = "store grey images as [N, H, W]" if 1 in (shape[1], shape[3]) else "store them as PNG files"
        raise InputError(
            f"{where} is {list(shape)}: the channels may be the second axis or the last one; if they are the second, transpose it with "
            f"images.transpose(0, 2, 3, 1); if the images are {shape[1]} pixels high, {advice}"
        )
    if 0 in shape[1:]:
        raise InputError(f"{where}: the images are {shape[1]}x{shape[2]} pixels; there is nothing in them")
    if images.dtype.kind not in "iuf":
        raise InputError(f"{where} must be uint8, but is {images.dtype}")
    if images.dtype != np.uint8 and data.pixel_range is None:
        raise InputError(
            f"{where} must be uint8, but is {images.dtype}; say which values are black and white: data.pixel_range: [black, white]"
            f"{_extremes(images)}"
        )


def _extremes(images: np.ndarray | _Large) -> str:
    if isinstance(images, _Large) or not images.size:
        return ""
    return f" (its values lie in [{images.min():g}, {images.max():g}])"


def _checked_labels(labels: np.ndarray, num_images: int, data: schema.Data, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and len(labels) == num_images:
        if not data.one_hot:
            raise InputError(
                f"{where} is {labels.dtype} {list(labels.shape)}: if every row holds a single 1, set data.one_hot: true; several "
                "labels per image cannot be used"
            )
        return one_hot_labels(list(labels.T), [str(k) for k in range(labels.shape[1])], where)
    if data.one_hot and labels.ndim == 1:
        raise InputError(
            f"{where}: data.one_hot: true, but it is {labels.dtype} {list(labels.shape)}; remove data.one_hot"
        )
    if labels.shape != (num_images,):
        raise InputError(
            f"{where} must be integers [{num_images}], one per image, but is {labels.dtype} {list(labels.shape)}"
        )
    if labels.dtype.kind == "U":
        return text_array(labels.tolist())
    if labels.dtype.kind == "b":
        return text_array("true" if value else "false" for value in labels.tolist())
    if labels.dtype.kind not in "iu":
        cast = {"f": "; if its numbers are whole, store labels.astype(int)", "S": "; store labels.astype(str)"}
        raise InputError(
            f"{where} must be integers [{num_images}], one per image, but is {labels.dtype} {list(labels.shape)}"
            f"{cast.get(labels.dtype.kind, '')}"
        )
    return whole_numbers(labels, where)


def _class_names(values: Mapping[str, _Array], path: Path) -> tuple[str, ...] | None:
    if "class_names" not in values:
        return None
    names = _plain(values, "class_names", path)
    if names.ndim != 1:
        raise InputError(f"{path}: class_names must be [K], one name per class, but is {list(names.shape)}")
    if names.dtype.kind not in "Uiu":
        raise InputError(f"{path}: class_names must be text, but is {names.dtype}")
    return tuple(map(str, names.tolist()))
