"""Chooses the columns of images and of classes in a table by name and type; never guesses among several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from winnow.search.data.foreign import named, shown
from winnow.search.data.listing import split_column
from winnow.spaces import schema
from winnow.spaces.errors import InputError


class Kind(StrEnum):
    """What a column can be used for."""

    IMAGE = "encoded images"
    TEXT = "text"
    INTEGER = "integers"
    BOOLEAN = "booleans"
    FLOAT = "floats"
    LIST = "lists"
    MIXED = "values of several types"
    OTHER = "of an unsupported type"


IMAGE_NAMES = ("image", "img")
PATH_NAMES = ("file_name", "filename", "file", "path", "filepath", "file_path", "image_path", "image", "img")
ID_NAMES = ("image_id", "image_name", "id")
"""Common names of a column of file names without folder or extension; it is used only if there is no column of paths."""
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target", "category")
FOLD_NAMES = ("fold", "group", "subject", "patient", "patient_id", "subject_id", "scene", "session", "speaker")
"""Common names, in lower case, of a column that says which images belong together. Winnow suggests it, but does not use it unless told to."""
CLASS_KINDS = (Kind.INTEGER, Kind.TEXT, Kind.BOOLEAN)


@dataclass(frozen=True)
class Column:
    """A column of a table; `shown` is its type as the file has it."""

    name: str
    kind: Kind
    shown: str


@dataclass(frozen=True)
class Chosen:
    """The columns that a data set is read from."""

    image: str
    is_path: bool
    labels: tuple[str, ...]
    """One column of classes, or several one-hot ones."""
    group: str | None = None
    unused: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A sentence that says which column was taken for what, and which were left out."""
        what = "paths of the images" if self.is_path else "images"
        classes = f"column `{self.labels[0]}`" if len(self.labels) == 1 else f"{len(self.labels)} one-hot columns"
        groups = f", groups from column `{self.group}`" if self.group else ""
        names = [name or "without a name" for name in self.unused]
        unused = f"; left out: columns {named(names, 10)}" if names else ""
        return f"{what} from column `{shown(self.image)}`, classes from {shown(classes)}{groups}{unused}{self._advice}"

    @property
    def _advice(self) -> str:
        parts = [name for name in self.unused if name.lower() in FOLD_NAMES]
        return (
            f"; `data.groups: {shown(parts[0])}` would keep the images of one {shown(parts[0])} in one split"
            if parts
            else ""
        )


def choose(columns: Sequence[Column], data: schema.Data, where: str, hinted_label: str | None = None) -> Chosen:
    """Choose the columns to read.

    Args:
        columns: All columns of the table.
        data: The `data` section of a config; its `image_column`, `label_column` and `groups` take precedence.
        where: The table, as it is named in errors.
        hinted_label: The column that the file itself declares to be the classes. Default: none.

    Raises:
        InputError: No column fits, or several do; the message names them and the key that decides.
    """
    by_name = {column.name: column for column in columns}
    image = _image(by_name, data.image_column, where)
    labels = _labels(by_name, data.label_column, hinted_label, image.name, where)
    group = data.groups if data.groups in by_name else None
    if data.groups is not None and group is None and "(" not in data.groups:
        raise InputError(f"{where}: data.groups: no column `{data.groups}` among {_listed(by_name.values())}")
    used = {image.name, *labels, group, split_column(by_name)}
    unused = tuple(name for name in by_name if name not in used)
    return Chosen(image.name, image.kind is Kind.TEXT, labels, group, unused)


def _image(by_name: Mapping[str, Column], asked: str | None, where: str) -> Column:
    if asked is not None:
        column = _existing(by_name, asked, "data.image_column", where)
        if column.kind not in (Kind.IMAGE, Kind.TEXT):
            raise InputError(
                f"{where}: data.image_column: `{asked}` is {column.shown}; encoded images or paths are needed"
            )
        return column
    images = [column for column in by_name.values() if column.kind is Kind.IMAGE]
    texts = [column for column in by_name.values() if column.kind is Kind.TEXT]
    paths, ids = (_with_names(texts, names) for names in (PATH_NAMES, ID_NAMES))
    for candidates in (_with_names(images, IMAGE_NAMES), images, paths, ids):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise InputError(
                f"{where}: several columns may contain the images: {_listed(candidates)}; say which: data.image_column"
            )
    raise InputError(
        f"{where}: no column of encoded images (a struct with `bytes`, or binary) or of paths (named file_name, path or image) "
        f"among {_listed(by_name.values())}; say which: data.image_column"
    )


def _with_names(columns: Iterable[Column], names: Sequence[str]) -> list[Column]:
    """Return the columns that have one of these names, in upper or lower case."""
    return [column for column in columns if column.name.lower() in names]


def _labels(
    by_name: Mapping[str, Column], asked: str | Sequence[str] | None, hinted: str | None, image: str, where: str
) -> tuple[str, ...]:
    if isinstance(asked, str):
        column = _existing(by_name, asked, "data.label_column", where)
        if column.kind not in (*CLASS_KINDS, Kind.FLOAT):
            raise InputError(f"{where}: data.label_column: {_unusable(column)}")
        return (asked,)
    if asked is not None:
        for name in asked:
            column = _existing(by_name, name, "data.label_column", where)
            if column.kind not in (*CLASS_KINDS, Kind.FLOAT):
                raise InputError(
                    f"{where}: data.label_column: `{name}` is {column.shown}; one-hot columns contain only 0 and 1"
                )
        return tuple(asked)
    others = [column for column in by_name.values() if column.name != image]
    column = _label_by_name(others, hinted, where)
    if column.kind not in CLASS_KINDS:
        raise InputError(f"{where}: the label column {_unusable(column)}")
    return (column.name,)


def _label_by_name(columns: Sequence[Column], hinted: str | None, where: str) -> Column:
    usual = _with_names(columns, LABEL_NAMES)
    declared = [column for column in columns if column.name == hinted]
    for candidates in (_with_names(usual, ("label",)), declared, usual):
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            break
    several = usual or [column for column in columns if column.kind in CLASS_KINDS]
    advice = "say which: data.label_column"
    if len(columns) > 1:
        advice += " (a list of columns if they are one-hot)"
    if len(several) > 1:
        raise InputError(f"{where}: the label column is ambiguous; it may be any of {_listed(several)}; {advice}")
    raise InputError(f"{where}: no label column (named `label`) among {_listed(columns)}; {advice}")


def _existing(by_name: Mapping[str, Column], name: str, key: str, where: str) -> Column:
    if name not in by_name:
        raise InputError(f"{where}: {key}: no column `{name}` among {_listed(by_name.values())}")
    return by_name[name]


def _unusable(column: Column) -> str:
    if column.kind is Kind.LIST:
        return (
            f"`{column.name}` is {column.shown}: several labels per image; Winnow trains networks that give each image one "
            "class, so such data sets cannot be used"
        )
    if column.kind is Kind.FLOAT:
        return (
            f"`{column.name}` is {column.shown}; classes are integers or text. If its numbers are whole, say that it is meant: "
            f"data.label_column: {column.name}"
        )
    return f"`{column.name}` is {column.shown}; classes are integers, booleans or text"


def _listed(columns: Iterable[Column]) -> str:
    listed = list(columns)
    text = ", ".join(f"{shown(column.name)}: {column.shown}" for column in listed[:20])
    return text + (", ..." if len(listed) > 20 else "") if listed else "no columns"
