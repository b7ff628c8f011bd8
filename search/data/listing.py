"""A data set before any image is decoded, as a reader of a layout returns it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from winnow.spaces import schema
from winnow.spaces.errors import InputError

SPLITS = ("train", "validation", "test")
SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Common names of a split, in upper or lower case, alone or as in `test_set` and `train-images`."""
_OF_SPLIT = re.compile(r"[ _-]?(?:set|split|data|images|imgs)")
SPLIT_COLUMN = "split"
NUMBERS = re.compile(r"[-_.]?\d+(?:[-_.]of[-_.]\d+(?:-[0-9a-zA-Z]+)?)?$")
"""The end of the name of a shard: its number, and perhaps a hash."""
SYSTEM_FOLDERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")


@dataclass(frozen=True)
class Encoded:
    """An image before it is decoded. `where` names it to the user; `content` is its bytes, its path, or its pixels."""

    where: str
    content: bytes | Path | np.ndarray


@dataclass(frozen=True)
class Part:
    """One split of a listing."""

    labels: np.ndarray
    """[N], int64 numbers or class names (object array of str)."""
    items: Callable[[Sequence[int]], Iterable[Encoded]]
    """The images with these ascending row numbers."""
    groups: np.ndarray | None = None
    """[N] object array of str; None if `data.groups` is not set."""

    def of_rows(self, rows: np.ndarray) -> Part:
        """Return the part that consists of these ascending rows."""
        return Part(self.labels[rows], _SomeItems(self, rows), None if self.groups is None else self.groups[rows])

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return the names by which the user knows the images with these row numbers; no image is read."""
        names_of = getattr(self.items, "names", None)
        return names_of(rows) if names_of is not None else [f"image {row}" for row in rows]


@dataclass(frozen=True)
class Layout:
    """A way to lay out a data set, and which of the keys `LAYOUT_KEYS` it reads."""

    words: str
    keys: tuple[str, ...] = ()


LAYOUT_KEYS = ("image_column", "label_column", "one_hot", "groups")
"""Keys of `data` that only some layouts read."""
KNOWN = Layout("a known data set")
CLASS_FOLDERS = Layout("class folders", ("groups",))
TABLE = Layout("tables", ("image_column", "label_column", "groups"))
ARCHIVE = Layout("npz files", ("one_hot", "groups"))
FUNCTION = Layout("custom functions", ("groups",))


@dataclass(frozen=True)
class Listing:
    """The splits of a data set (`train` always exists), and how its files were interpreted."""

    parts: dict[str, Part]
    layout: Layout
    class_names: tuple[str, ...] | None = None
    """Names of integer labels; None: not known."""
    files: tuple[Path, ...] | None = None
    """All files that decide what the images are. None if the pixels are in memory already; nothing is cached then."""
    source_key: str = ""
    """Anything else that decides what the images are, such as the code of a function."""
    notes: tuple[str, ...] = ()
    """Which columns or folders are used, and what was left out."""
    keep_order: bool = False
    """Whether training images stay in the order of the listing. Otherwise the order follows from the pixels, so that the same
    images make the same splits, whatever layout they come in."""


def refuse_unused_keys(listing: Listing, data: schema.Data) -> None:
    """Check that no key is set that has no effect on this layout.

    Args:
        listing: The data set, with its layout.
        data: The `data` section of a config.

    Raises:
        InputError: A key of `LAYOUT_KEYS` that the layout does not read is not at its default, or
            `stratified` is set although the data set has a validation split.
    """
    for key in LAYOUT_KEYS:
        value = getattr(data, key)
        if value == schema.Data.model_fields[key].default or key in listing.layout.keys:
            continue
        advice = "remove it"
        if listing.layout is CLASS_FOLDERS and key != "one_hot":
            advice = "remove it, or name a table in data.path to take the classes from a column"
        readers = [layout.words for layout in (CLASS_FOLDERS, TABLE, ARCHIVE, FUNCTION) if key in layout.keys]
        raise InputError(
            f"data.{key}: {value!r} has no effect on {listing.layout.words} ({data.path or data.name}); "
            f"it is for {' and '.join(readers)}: {advice}"
        )
    brings_validation = "validation" in listing.parts and not isinstance(data.validation, float)
    if not data.stratified and brings_validation:
        raise InputError(
            f"data.stratified: False has no effect, since {data.path or data.name} has a validation split; remove it, or give "
            "data.validation a share"
        )


def split_of(name: str) -> str | None:
    """Return the split that a folder, file or column value of this name means."""
    plain = name.strip().lower()
    return SPLIT_NAMES.get(plain) or next((SPLIT_NAMES[n] for n in SPLIT_NAMES if _is_of(plain, n)), None)


def split_column(names: Iterable[str]) -> str | None:
    """Return the column named `split`, in upper or lower case; None if there is none."""
    return next((name for name in names if name.lower() == SPLIT_COLUMN), None)


def split_of_shard(stem: str) -> str | None:
    """Return the split that a file name without suffix means; the number of a shard in it is ignored."""
    return split_of(NUMBERS.sub("", stem))


def _is_of(name: str, split: str) -> bool:
    return name.startswith(split) and _OF_SPLIT.fullmatch(name, len(split)) is not None


def is_system(name: str) -> bool:
    """Return whether a folder or file of this name is hidden or belongs to an operating system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def text_array(values: Iterable[str]) -> np.ndarray:
    """Return an object array: numpy's own text arrays drop trailing null characters."""
    texts = list(values)
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def group_texts(values: Sequence[object], where: str) -> list[str]:
    """Return a column of any type as texts.

    Args:
        values: The values [N].
        where: The column, as it is named in errors.

    Returns:
        N texts.

    Raises:
        InputError: A value is NaN, which stands for a missing one: such rows would be one group.
    """
    missing = [row for row, value in enumerate(values) if value != value]  # true of NaN alone
    if missing:
        raise InputError(
            f"{where}: {len(missing)} {'row has' if len(missing) == 1 else 'rows have'} no value (NaN), the first: row {missing[0]}"
        )
    return list(map(str, values))


def array_items(images: np.ndarray | Sequence[np.ndarray], where: str) -> Callable[[Sequence[int]], Iterable[Encoded]]:
    """Return the `Part.items` of images that are in memory.

    Args:
        images: N images uint8 [H, W, C], as one array or as a sequence.
        where: Name of the part; each image is named `WHERE, image ROW`.
    """
    return _ArrayItems(images, where)


def file_items(files: Sequence[Path], names: Sequence[str]) -> Callable[[Sequence[int]], Iterable[Encoded]]:
    """Return the `Part.items` of image files.

    Args:
        files: One file per row.
        names: Names of the same files, as they are shown to the user.
    """
    return _FileItems(files, names)


@dataclass(frozen=True)
class _SomeItems:
    """The images in the `chosen` rows of a part."""

    part: Part
    chosen: np.ndarray

    def __call__(self, rows: Sequence[int]) -> Iterable[Encoded]:
        return self.part.items(self.chosen[list(rows)].tolist())

    def names(self, rows: Sequence[int]) -> list[str]:
        return self.part.names(self.chosen[list(rows)].tolist())


@dataclass(frozen=True)
class _ArrayItems:
    """Images in memory, named by `where` and their row."""

    images: np.ndarray | Sequence[np.ndarray]
    where: str

    def __call__(self, rows: Sequence[int]) -> Iterable[Encoded]:
        return (Encoded(f"{self.where}, image {row}", self.images[row]) for row in rows)

    def names(self, rows: Sequence[int]) -> list[str]:
        return [f"{self.where}, image {row}" for row in rows]


@dataclass(frozen=True)
class _FileItems:
    """Image files, named as the user knows them."""

    files: Sequence[Path]
    known_as: Sequence[str]

    def __call__(self, rows: Sequence[int]) -> Iterable[Encoded]:
        return (Encoded(self.known_as[row], self.files[row]) for row in rows)

    def names(self, rows: Sequence[int]) -> list[str]:
        return [self.known_as[row] for row in rows]


def refuse_two(where: object, split: str, names: Sequence[str]) -> None:
    """Check that at most one folder or file is taken for a split.

    Args:
        where: The folder that holds them, named in the error.
        split: The split, or another description that fits before the word `split`.
        names: Names of the folders or files.

    Raises:
        InputError: There are at least two names.
    """
    if len(names) > 1:
        raise InputError(f"data.path: {where} holds {' and '.join(names)}, both a {split} split; keep one of them")
