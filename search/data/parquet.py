"""Lists image data sets in Parquet: shards named by split, images as encoded bytes or as paths."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.search.data.columns import CLASS_KINDS, Chosen, Column, Kind, choose
from winnow.search.data.foreign import foreign, named, require_file, shown
from winnow.search.data.labels import check_names
from winnow.search.data.listing import SPLITS, TABLE, Listing, Part, split_column, text_array
from winnow.search.data.parquet_columns import (
    ROWS_PER_BATCH,
    ImageItems,
    Places,
    read_column,
    referenced,
    texts_of,
)
from winnow.search.data.shards import find_shards, other_files
from winnow.search.data.split_column import refuse_alike, refuse_contradiction, rows_by_split
from winnow.search.data.table_values import groups_of, one_hot_labels, whole_numbers
from winnow.search.data.walking import find_files, left_out_note, other_kinds
from winnow.spaces import schema
from winnow.spaces.errors import InputError


def list_parquet(path: Path, data: schema.Data) -> Listing:
    """List a data set in Parquet.

    Args:
        path: One file of training images; or a folder with `train-*.parquet` and perhaps `validation-*.parquet` and
            `test-*.parquet`, or with one folder of files per split, at most two levels deep.
        data: The `data` section of a config; it decides which columns are read if that is ambiguous.

    Raises:
        InputError: A file cannot be read, shards are missing, or they have other columns than the first one.
    """
    shards = find_shards(path)
    first = shards["train"][0]
    chosen = choose(_columns(first), data, str(first), _class_label(first))
    files = [file for of_split in shards.values() for file in of_split]
    for split, of_split in shards.items():
        advice = "" if split == "train" else _without(split, shards["train"])
        for file in of_split:
            _check_same_columns(file, first, chosen, advice)
    names = _Names(first, chosen)
    places, searched = _find_images(files, chosen)
    parts = {split: _part(of_split, chosen, names, places, data) for split, of_split in shards.items()}
    notes = [chosen.note, *searched, *names.notes, *_unread_names(files, chosen.labels[0])]
    if len(shards) > 1:
        _refuse_contradictions(shards)
        notes.append(f"splits from the names of the files ({_files_text(shards, path)})")
    elif rows := _rows_by_split(shards["train"], chosen):
        parts = {split: parts["train"].of_rows(np.array(of_split)) for split, of_split in rows.items()}
        notes.append("splits from column `split`")
    if path.is_dir() and (others := other_files(path, shards)):
        notes.append(f"left out: {len(others)} Parquet files that belong to no split: {named(others)}")
    if path.is_dir():
        notes += left_out_note(other_kinds(path, (".parquet",)))
    files += sorted({image for of_file in places.values() for image in of_file.values()})
    return Listing(parts, TABLE, names.of_labels, tuple(files), notes=tuple(notes))


def _files_text(shards: Mapping[str, Sequence[Path]], path: Path) -> str:
    """Describe which files are which split, such as `train.parquet and 1 more for train`."""
    first = {split: f"`{shown(files[0].relative_to(path))}`" for split, files in shards.items()}
    more = {split: f" and {len(files) - 1} more" if len(files) > 1 else "" for split, files in shards.items()}
    return ", ".join(f"{first[split]}{more[split]} for {split}" for split in SPLITS if split in shards)


# --- schemas ------------------------------------------------------------------------------------------------------


def _schema(file: Path) -> pa.Schema:
    require_file(file, "Parquet file")
    with foreign(str(file), "Parquet file"):
        return pq.read_schema(file)


def _columns(file: Path) -> list[Column]:
    columns = [Column(field.name, _kind_of(field.type), str(field.type)) for field in _schema(file)]
    twice = [name for name, count in Counter(column.name for column in columns).items() if count > 1]
    if twice:
        raise InputError(f"{file}: a column name occurs twice: {named(twice)}")
    return columns


def _kind_of(kind: pa.DataType) -> Kind:
    if pa.types.is_dictionary(kind):
        return _kind_of(kind.value_type)
    if pa.types.is_struct(kind):
        fields = {kind.field(i).name for i in range(kind.num_fields)}
        return Kind.IMAGE if "bytes" in fields else Kind.OTHER
    for test, column_kind in _KINDS:
        if test(kind):
            return column_kind
    return Kind.OTHER


_KINDS = (
    (lambda kind: pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind), Kind.IMAGE),
    (lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind), Kind.TEXT),
    (pa.types.is_integer, Kind.INTEGER),
    (pa.types.is_boolean, Kind.BOOLEAN),
    (lambda kind: pa.types.is_floating(kind) or pa.types.is_decimal(kind), Kind.FLOAT),
    (lambda kind: pa.types.is_nested(kind), Kind.LIST),
)  # fmt: skip


def _without(split: str, train: Sequence[Path]) -> str:
    """Return advice on how to leave a split out."""
    how = f"set data.path: {shown(train[0])}" if len(train) == 1 else "move its files away"
    return f"; to leave the {split} split out, {how}"


def _check_same_columns(file: Path, first: Path, chosen: Chosen, advice: str) -> None:
    mine, theirs = ({column.name: column for column in _columns(each)} for each in (file, first))
    for name in (chosen.image, *chosen.labels, *([chosen.group] if chosen.group else [])):
        if name not in mine:
            raise InputError(
                f"{file}: has no column `{shown(name)}`, which {first.name} has; it holds {named(list(mine), 10)}{advice}"
            )
        if mine[name].kind is not theirs[name].kind:
            raise InputError(
                f"{file}: its column `{shown(name)}` is {mine[name].shown}, but that of {first.name} is {theirs[name].shown}"
            )


def _features(file: Path) -> dict[str, object]:
    """Return Hugging Face's description of the columns in the metadata; empty if there is none."""
    try:
        features = json.loads((_schema(file).metadata or {})[b"huggingface"])["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _class_label(file: Path) -> str | None:
    """Return the only column that the file itself declares to be classes; None if there are none or several."""
    declared = [name for name, value in _features(file).items() if isinstance(value, dict) and value.get("names")]
    return declared[0] if len(declared) == 1 else None


def _class_names(file: Path, label: str) -> tuple[str, ...] | None:
    feature = _features(file).get(label)
    names = feature.get("names") if isinstance(feature, dict) else None
    if isinstance(names, dict) and set(names) == {str(k) for k in range(len(names))}:
        names = [names[str(k)] for k in range(len(names))]
    return tuple(map(str, names)) if isinstance(names, list) else None


def _unread_names(files: Sequence[Path], label: str) -> list[str]:
    """Return a warning if class names in Hugging Face metadata cannot be read; empty if there are none of these."""
    unread = [file.name for file in files if _has_unread_names(file, label)]
    if not unread:
        return []
    return [
        f"warning: the Hugging Face metadata of {named(unread)} cannot be understood, so class names in them are not used"
    ]


def _has_unread_names(file: Path, label: str) -> bool:
    features = _features(file)
    if not features:
        return b"huggingface" in (_schema(file).metadata or {})
    feature = features.get(label)
    return isinstance(feature, dict) and bool(feature.get("names")) and _class_names(file, label) is None


class _Names:
    """The class names of every file. If a file has the names in another order, its label numbers are translated by name."""

    def __init__(self, first: Path, chosen: Chosen) -> None:
        self._label = chosen.labels[0]
        self.of_labels = _class_names(first, self._label) if len(chosen.labels) == 1 else chosen.labels
        self.notes: list[str] = []
        if self.of_labels is not None:
            check_names(self.of_labels, str(first))

    def translated(self, file: Path, numbers: np.ndarray) -> np.ndarray:
        names = _class_names(file, self._label)
        if names == self.of_labels:
            return numbers
        if names is None or self.of_labels is None:
            lacking = "without class names" if names is None else "with class names, which the first file has not"
            self.notes.append(
                f"{shown(file.name)} is {lacking}; its label numbers are taken as those of the first file"
            )
            return numbers
        check_names(names, str(file))
        known = {name: k for k, name in enumerate(self.of_labels)}
        if unknown := [name for name in names if name not in known]:
            raise InputError(f"{file}: has class names that the first file has not: {named(unknown)}")
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(names):
            raise InputError(
                f"{file}: labels lie in [{numbers.min()}, {numbers.max()}], but it has names for [0, {len(names) - 1}]"
            )
        self.notes.append(f"{shown(file.name)} numbers the classes otherwise; its labels are translated by their names")
        return np.array([known[name] for name in names], dtype=np.int64)[numbers]


# --- values -------------------------------------------------------------------------------------------------------


def _rows_by_split(files: Sequence[Path], chosen: Chosen) -> dict[str, list[int]]:
    """Return the rows of each split according to the column `split`; empty if there is no such column."""
    where, used = shown(files[0]), {chosen.image, *chosen.labels, chosen.group}
    others = [column.name for column in _columns(files[0]) if column.kind in CLASS_KINDS and column.name not in used]
    if (split := split_column(others)) is not None:
        return rows_by_split([text for file in files for text in texts_of(file, split)], where)
    refuse_alike(others, lambda name: (text for file in files for text in _first_texts(file, name)), where)
    return {}


def _refuse_contradictions(shards: Mapping[str, Sequence[Path]]) -> None:
    """Raise InputError if the column `split` of a file names another split than the name of the file."""
    for split, files in shards.items():
        for file in files:
            texts = [column.name for column in _columns(file) if column.kind is Kind.TEXT]
            if (column := split_column(texts)) is not None:
                refuse_contradiction(_first_texts(file, column), split, shown(file))


def _first_texts(file: Path, column: str) -> Iterator[str]:
    """Yield the values of a column as text, read in batches as they are needed."""
    with foreign(f"{file}: column `{shown(column)}`", "column"), pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=[column]):
            yield from map(str, batch.column(0).to_pylist())


def _part(files: Sequence[Path], chosen: Chosen, names: _Names, places: Places, data: schema.Data) -> Part:
    labels = [_labels(file, chosen, names) for file in files]
    groups = None
    if data.groups is not None:
        column = chosen.group or chosen.image
        texts = [text for file in files for text in (texts_of(file, column))]
        groups = text_array(texts) if chosen.group else groups_of(texts, data.groups)
    return Part(np.concatenate(labels), ImageItems(files, chosen, places), groups)


def _labels(file: Path, chosen: Chosen, names: _Names) -> np.ndarray:
    if len(chosen.labels) > 1:
        return one_hot_labels(
            [read_column(file, column).to_numpy() for column in chosen.labels], chosen.labels, str(file)
        )
    values = read_column(file, chosen.labels[0])
    kind = _kind_of(values.type)
    if kind is Kind.TEXT:
        return text_array(values.to_pylist())
    if kind is Kind.BOOLEAN:
        return text_array("true" if value else "false" for value in values.to_pylist())
    numbers = values.cast(pa.float64()).to_numpy() if kind is Kind.FLOAT else values.to_numpy()
    return names.translated(file, whole_numbers(numbers, f"{file}: column `{shown(chosen.labels[0])}`"))


def _find_images(files: Sequence[Path], chosen: Chosen) -> tuple[Places, list[str]]:
    """Return the paths of images that are not in the Parquet files themselves, and notes on the folders that were searched."""
    places: Places = {}
    notes: list[str] = []
    for file in files:
        texts = referenced(file, chosen)
        images, folder = find_files(texts, file)
        places[file] = dict(zip(texts, images, strict=True))
        if folder is not None:
            notes.append(f"{shown(file.name)}: the images were found by their names in {folder}")
    return places, notes
