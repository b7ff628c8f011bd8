"""Lists images by a table of their paths and classes: `labels.csv`, Hugging Face's `metadata.csv`, JSON lines."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from winnow.search.data.columns import Chosen, Column, Kind, choose
from winnow.search.data.foreign import counted, foreign, named, require_file, shown
from winnow.search.data.listing import (
    SPLIT_COLUMN,
    TABLE,
    Listing,
    Part,
    file_items,
    is_system,
    refuse_two,
    split_column,
    split_of,
    text_array,
)
from winnow.search.data.split_column import refuse_alike, refuse_contradiction, rows_by_split
from winnow.search.data.table_values import groups_of, one_hot_labels, whole_numbers
from winnow.search.data.walking import find_files, images_in, left_out_note, why_left_out
from winnow.spaces import schema
from winnow.spaces.errors import InputError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
TABLE_NAMES = ("labels", "metadata")
DELIMITERS = (",", ";", "\t")
NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class _Table:
    """A table whose values are all text, since a number may be the name of a class. An empty text is a missing value."""

    path: Path
    columns: dict[str, list[str]]
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    """The kinds of the columns that are not text."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), []))


def find_tables(folder: Path) -> dict[str, Path]:
    """Return {split: table} in a folder: one `labels` or `metadata` file (as `train`), or one file named after each split."""
    with foreign(shown(folder), "folder"):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in TABLE_SUFFIXES and not is_system(f.name))
    whole = [file for file in files if file.stem.lower() in TABLE_NAMES]
    if whole:
        others = [file for file in files if split_of(file.stem)]
        refuse_two(folder, "table of the", [file.name for file in [*whole, *others]])
        return {"train": whole[0]}
    tables: dict[str, Path] = {}
    for split in ("train", "validation", "test"):
        same = [file for file in files if split_of(file.stem) == split]
        refuse_two(folder, split, [file.name for file in same])
        if same:
            tables[split] = same[0]
    return tables if "train" in tables else {}


def list_tables(tables: dict[str, Path], root: Path, data: schema.Data, notes: Sequence[str] = ()) -> Listing:
    """List images by their tables.

    Args:
        tables: One table per split; a single one may have a column `split`. Paths in it are relative to its folder.
        root: The folder of the data set.
        data: The `data` section of a config; it decides which columns are read if that is ambiguous.
        notes: Notes of the caller, to add to those of the listing. Default: none.

    Raises:
        InputError: A table cannot be read, or lacks the columns.
    """
    read = {split: _read(path) for split, path in tables.items()}
    first = read["train"]
    chosen = choose(_columns(first), data, shown(first.path))
    parts: dict[str, Part] = {}
    files: list[Path] = []
    sentences = [f"{named([table.path.name for table in read.values()])}: {chosen.note}", *notes]
    for name, table in read.items():
        _check_columns(table, first, chosen)
        of_rows, folder = find_files(table.columns[chosen.image], table.path)
        files += of_rows
        if folder is not None:
            sentences.append(f"{table.path.name}: the images were found by their names in {folder}")
        for split, rows in _splits(table, name, len(read) == 1, chosen).items():
            parts[split] = _part(table, of_rows, rows, chosen, data)
    if len(read) == 1 and split_column(first.columns) is not None:
        sentences.append("splits from column `split`")
    elif len(read) == 1 and len(parts) > 1:
        sentences.append(f"splits ({', '.join(parts)}) from the first folder of the paths")
    sentences += unlisted_note(root, files, tables.values())
    if "train" not in parts:
        raise InputError(f"{shown(first.path)}: no row belongs to the split train (found: {', '.join(parts)})")
    names = chosen.labels if len(chosen.labels) > 1 else None
    return Listing(parts, TABLE, names, (*tables.values(), *files), notes=tuple(sentences))


def _read(path: Path) -> _Table:
    require_file(path, "table")
    with foreign(shown(path), "table"):
        text = _decoded(path.read_bytes())
        if path.suffix.lower() == ".jsonl":
            lines = enumerate(text.split("\n"), start=1)
            return _of_records(path, [_record(line, number) for number, line in lines if line.strip()])
        header = re.sub('"[^"]*"', '""', text.partition("\n")[0])
        delimiter = "\t" if path.suffix.lower() == ".tsv" else max(DELIMITERS, key=header.count)
        is_spaced = header.count(delimiter + " ") == header.count(delimiter)
        stream = io.StringIO(text, newline="")
        rows = list(csv.reader(stream, delimiter=delimiter, skipinitialspace=is_spaced, strict=True))
    if "\0" in text:
        raise InputError(f"{shown(path)}: not a readable table (it holds null characters)")
    names = [name.strip() for name in rows[0]] if rows else []
    filled = [(line, row) for line, row in enumerate(rows[1:], start=2) if any(map(str.strip, row))]
    for line, row in filled:
        if len(row) != len(names):
            raise InputError(
                f"{shown(path)}, line {line}: {len(row)} values, but the header names {len(names)} columns"
            )
    # Spreadsheets also write unused columns, without name or values.
    used = [k for k, name in enumerate(names) if name or any(row[k].strip() for _, row in filled)]
    names = [names[k] for k in used]
    if len(set(names)) < len(names):
        raise InputError(
            f"{shown(path)}: a column name occurs twice: {named([n for n in names if names.count(n) > 1], 1)}"
        )
    columns = {name: [row[k] for _, row in filled] for name, k in zip(names, used, strict=True)}
    return _Table(path, columns, {name: Kind.FLOAT for name, values in columns.items() if _are_decimal(values)})


def _are_decimal(values: Sequence[str]) -> bool:
    """Return whether texts are numbers, some with a decimal point or a negative exponent: measurements, or integers that pandas wrote as floats."""
    return all(map(NUMBER.fullmatch, values)) and any("." in value or "e-" in value.lower() for value in values)


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: {error}; save it as UTF-8") from error


def _record(line: str, number: int) -> dict[str, object]:
    try:
        record = json.loads(line, object_pairs_hook=_without_repeats)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {number} is no JSON: {error.msg}, at character {error.pos + 1}") from error
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is {type(record).__name__}, but each must be an object")
    return record


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("it names a column twice")
    return dict(pairs)


def _of_records(path: Path, records: list[dict[str, object]]) -> _Table:
    names = list(dict.fromkeys(name for record in records for name in record))
    values = {name: [record.get(name) for record in records] for name in names}
    columns = {name: list(map(_json_text, of_name)) for name, of_name in values.items()}
    return _Table(path, columns, {name: _json_kind(of_name) for name, of_name in values.items()})


def _json_text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _json_kind(values: Sequence[object]) -> Kind:
    kinds = {type(value) for value in values if value is not None}
    if kinds & {list, dict}:
        return Kind.LIST
    if float in kinds and kinds <= {int, float}:
        return Kind.FLOAT
    return Kind.TEXT if len(kinds) <= 1 else Kind.MIXED


def _columns(table: _Table) -> list[Column]:
    if not len(table):
        raise InputError(f"{shown(table.path)}: holds no rows")
    kinds = {name: table.kinds.get(name, Kind.TEXT) for name in table.columns}
    return [Column(name, kind, str(kind)) for name, kind in kinds.items()]


def _check_columns(table: _Table, first: _Table, chosen: Chosen) -> None:
    for name in (chosen.image, *chosen.labels, *([chosen.group] if chosen.group else [])):
        if name not in table.columns:
            raise InputError(
                f"{shown(table.path)}: has no column `{shown(name)}`, which {first.path.name} has{_without(table)}"
            )
        mine, theirs = (each.kinds.get(name, Kind.TEXT) for each in (table, first))
        if mine is not theirs:
            raise InputError(
                f"{shown(table.path)}: its column `{shown(name)}` is {mine}, but that of {first.path.name} is {theirs}"
            )
        empty = [row for row, value in enumerate(table.columns[name]) if not value.strip()]
        if empty:
            raise InputError(
                f"{shown(table.path)}: {counted(len(empty), 'row has', 'rows have')} no `{shown(name)}`, the first: row {empty[0]}"
            )


def _without(table: _Table) -> str:
    """Return advice on how to leave out a split whose table lacks a column, such as the labels; empty if that is impossible."""
    train = [
        file for file in table.path.parent.iterdir() if split_of(file.stem) == "train" and file.suffix in TABLE_SUFFIXES
    ]
    return f"; to leave this split out, set data.path: {shown(train[0])}" if len(train) == 1 else ""


def _splits(table: _Table, name: str, is_only_one: bool, chosen: Chosen) -> dict[str, list[int]]:
    """Return {split: row numbers}. If there is only one table, its column `split` or the first folder of the paths decides."""
    split = split_column(table.columns)
    if not is_only_one:
        if split is not None:
            refuse_contradiction(table.columns[split], name, shown(table.path))
        return {name: list(range(len(table)))}
    if split is not None:
        return rows_by_split(table.columns[split], shown(table.path))
    used = {chosen.image, *chosen.labels, chosen.group}
    refuse_alike(
        [column for column in table.columns if column not in used], table.columns.__getitem__, shown(table.path)
    )
    return _splits_by_folder(table, name, chosen)


def _splits_by_folder(table: _Table, name: str, chosen: Chosen) -> dict[str, list[int]]:
    """Return {split: row numbers} by the first folder of each path, as in `test/7.png`; one split if no folder names one."""
    rows: dict[str | None, list[int]] = {}
    for row, text in enumerate(table.columns[chosen.image]):
        folder, _, rest = text.removeprefix("./").replace("\\", "/").partition("/")
        rows.setdefault(split_of(folder) if rest else None, []).append(row)
    if set(rows) in ({None}, {"train"}):
        return {name: list(range(len(table)))}
    if None in rows:
        raise InputError(
            f"{shown(table.path)}: {len(table) - len(rows[None])} paths begin with the name of a split, but {len(rows[None])} do not, "
            f"the first: row {rows[None][0]}; say which split every image is of: a column `{SPLIT_COLUMN}`"
        )
    return {split: of_split for split, of_split in rows.items() if split is not None}


def _part(table: _Table, files: Sequence[Path], rows: list[int], chosen: Chosen, data: schema.Data) -> Part:
    def column(name: str) -> list[str]:
        return [table.columns[name][row] for row in rows]

    of_rows = [files[row] for row in rows]
    if len(chosen.labels) > 1:
        columns = [text_array(column(name)) for name in chosen.labels]
        labels = one_hot_labels(columns, chosen.labels, shown(table.path))
    else:
        name = chosen.labels[0]
        values = column(name)
        if table.kinds.get(name) is Kind.FLOAT:
            where = f"{shown(table.path)}: column `{shown(name)}`"
            values = list(map(str, whole_numbers(np.array(values).astype(np.float64), where).tolist()))
        labels = text_array(unicodedata.normalize("NFC", text) for text in values)
    groups = None
    if data.groups is not None:
        groups = text_array(column(chosen.group)) if chosen.group else groups_of(column(chosen.image), data.groups)
    return Part(labels, file_items(of_rows, [shown(file) for file in of_rows]), groups)


def unlisted_note(root: Path, files: Sequence[Path], tables: Iterable[Path]) -> list[str]:
    """Return sentences about files that are neither listed images nor the tables that list them; none if there are no such files.

    Args:
        root: Folder that is searched for files, with its sub-folders.
        files: The listed images.
        tables: The tables.
    """
    listed, left_out = set(map(_real, files)), Counter[str]()
    unlisted = sum(_real(image) not in listed for image in images_in(root, left_out))
    for table in tables:
        left_out[why_left_out(table.name) or ""] -= 1
    images = "image" if unlisted == 1 else "images"
    notes = [f"left out: {unlisted:,} {images} in {shown(root)} that the table does not list"] if unlisted else []
    return [*notes, *left_out_note(+left_out)]


def _real(file: Path) -> str:
    try:
        return os.path.realpath(file)
    except ValueError:  # a name that no file can have
        return str(file)
