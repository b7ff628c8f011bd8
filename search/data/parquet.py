"""Image data sets in Parquet as Hugging Face writes them: shards named by split, images as encoded bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.search.data.arrays import Arrays
from winnow.search.data.decode import Encoded
from winnow.search.data.decoded_parts import Part, decode_parts
from winnow.spaces import schema
from winnow.spaces.errors import InputError

SPLIT_NAMES = {"train": "train", "test": "test", "validation": "validation", "valid": "validation", "val": "validation"}
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
SHARD = re.compile(r"^(?P<split>[a-z]+)(?:[-_.](?:(?P<number>\d+)-of-(?P<count>\d+))?.*)?$")


def read_parquet(path: Path, data: schema.Data, data_dir: Path) -> Arrays:
    """`path`: a folder with `train-*.parquet`, `test-*.parquet` and perhaps `validation-*.parquet`, or one file (all train).

    Images are a struct column with `bytes`, or a binary one; labels integers, with class names in the schema metadata
    key `huggingface` where it is there. InputError says what is missing.
    """
    shards = _find_shards(path)
    image, label = _columns(shards["train"][0])
    names = _class_names(shards["train"][0], label)
    parts = {split: Part(_labels(files, label), _Items(files, image)) for split, files in shards.items()}
    if names is None:
        names = tuple(str(k) for k in range(int(parts["train"].labels.max(initial=-1)) + 1))
    return decode_parts(parts, names, [file for files in shards.values() for file in files], data, data_dir)


class _Items:
    """The encoded images of some shards, read only when asked for."""

    def __init__(self, files: Sequence[Path], column: str) -> None:
        self._files, self._column = files, column

    def __call__(self, num: int | None) -> Sequence[Encoded]:
        return list(islice((item for file in self._files for item in _encoded(file, self._column)), num))


def _find_shards(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {"train": [path]}
    if not path.is_dir():
        raise InputError(f"data.path: {path} does not exist; a folder with train-*.parquet or a Parquet file is needed")
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
    shards: dict[str, list[Path]] = {}
    for file in files:
        match = SHARD.match(file.stem)
        if match and match["split"] in SPLIT_NAMES:
            shards.setdefault(SPLIT_NAMES[match["split"]], []).append(file)
    if "train" not in shards:
        found = ", ".join(file.name for file in files[:5]) or "no Parquet file"
        raise InputError(f"data.path: {path} holds no train-*.parquet (found: {found})")
    for split, split_files in shards.items():
        _refuse_missing(path, split, split_files)
    return shards


def _refuse_missing(path: Path, split: str, files: Sequence[Path]) -> None:
    """Shards say how many they are: `train-00000-of-00002`."""
    if len({file.parent for file in files}) > 1:
        folders = ", ".join(sorted({file.parent.name for file in files}))
        raise InputError(f"data.path: {path} holds {split} shards in several folders ({folders}); name one of them")
    counts = {int(match["count"]) for file in files if (match := SHARD.match(file.stem)) and match["count"]}
    if counts and counts != {len(files)}:
        raise InputError(f"data.path: {path} holds {len(files)} of {max(counts)} {split} shards")


def _columns(file: Path) -> tuple[str, str]:
    """Names of the image and the label column."""
    fields = {field.name: field.type for field in _schema(file)}
    images = [name for name in IMAGE_COLUMNS if name in fields] or [n for n in fields if _holds_images(fields[n])]
    if not images or not _holds_images(fields[images[0]]):
        raise InputError(
            f"{file}: no column of encoded images (a struct with `bytes`, or binary) among {_shown(fields)}"
        )
    integers = [name for name, kind in fields.items() if pa.types.is_integer(kind)]
    labels = [name for name in LABEL_COLUMNS if name in integers] or integers
    if not labels or (len(labels) > 1 and labels[0] not in LABEL_COLUMNS):
        raise InputError(
            f"{file}: no label column (an integer column named `label`, or the only one) among {_shown(fields)}"
        )
    return images[0], labels[0]


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(i).name == "bytes" for i in range(kind.num_fields))
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _shown(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {kind}" for name, kind in fields.items())


def _class_names(file: Path, label: str) -> tuple[str, ...] | None:
    metadata = (_schema(file).metadata or {}).get(b"huggingface")
    if metadata is None:
        return None
    try:
        names = json.loads(metadata)["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return tuple(map(str, names))


def _schema(file: Path) -> pa.Schema:
    try:
        return pq.read_schema(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({error})") from error


def _labels(files: Sequence[Path], column: str) -> np.ndarray:
    labels = []
    for file in files:
        try:
            values = pq.read_table(file, columns=[column])[column]
        except (pa.ArrowException, OSError, KeyError) as error:
            raise InputError(f"{file}: its column `{column}` cannot be read ({error})") from error
        if values.null_count:
            raise InputError(f"{file}: {values.null_count} rows have no `{column}`")
        labels.append(values.to_numpy().astype(np.int64))
    return np.concatenate(labels)


def _encoded(file: Path, column: str) -> Any:
    try:
        with pq.ParquetFile(file) as parquet:
            row = 0
            for batch in parquet.iter_batches(batch_size=1000, columns=[column]):
                values = batch.column(0)
                values = values.field("bytes") if pa.types.is_struct(values.type) else values
                for content in values.to_pylist():
                    if content is None:
                        raise InputError(f"{file}, row {row}: holds no image bytes (a path alone is not enough)")
                    yield Encoded(f"{file}, row {row}", content)
                    row += 1
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: not a readable Parquet file ({error})") from error
