"""Reads single columns of Parquet files, and the images in them or beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.search.data.foreign import counted, foreign, shown
from winnow.search.data.listing import Encoded, group_texts
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from winnow.search.data.columns import Chosen

ROWS_PER_BATCH = 1000
MAX_PATH = 300
"""Length from which a text is shown shortened, since it is probably an image in Base64 rather than a path."""
Places = dict[Path, dict[str, Path]]
"""{Parquet file: {path as the file contains it: path of the image}}."""


def read_column(file: Path, column: str) -> pa.ChunkedArray:
    """Read one column of a Parquet file.

    Args:
        file: The file.
        column: Name of the column.

    Returns:
        One value per row; dictionary-encoded values are decoded.

    Raises:
        InputError: The column cannot be read, or a row has no value.
    """
    with foreign(f"{file}: column `{shown(column)}`", "column"):
        # Without partitions, since folder names such as `label=3` would become columns.
        values = pq.read_table(file, columns=[column], partitioning=None)[column]
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
    if values.null_count:
        raise InputError(f"{file}: {counted(values.null_count, 'row has', 'rows have')} no `{shown(column)}`")
    return values


def texts_of(file: Path, column: str) -> list[str]:
    """Read a column of a Parquet file as texts.

    Args:
        file: The file.
        column: Name of the column. If it holds structs with a `path`, the paths are read.

    Returns:
        One text per row; an empty text if a struct has no path.

    Raises:
        InputError: The column cannot be read, or holds bytes without paths.
    """
    values = read_column(file, column)
    if pa.types.is_struct(values.type):
        fields = [values.type.field(i).name for i in range(values.type.num_fields)]
        if "path" not in fields:
            raise InputError(f"{file}: data.groups: the column `{shown(column)}` holds no paths to search in")
        return ["" if row["path"] is None else str(row["path"]) for row in values.to_pylist()]
    if any(test(values.type) for test in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)):
        raise InputError(f"{file}: data.groups: the images are bytes without a path to search in; name a column")
    return group_texts(values.to_pylist(), f"{file}: column `{shown(column)}`")


def referenced(file: Path, chosen: Chosen) -> list[str]:
    """Return the paths of images that a Parquet file refers to but does not contain.

    Args:
        file: The file.
        chosen: The columns that are read; `image` is a column of paths, of bytes, or of both.

    Returns:
        The paths as the file contains them, in the order of the rows; empty if all images are in
        the file.

    Raises:
        InputError: The file cannot be read.
    """
    if chosen.is_path:
        return texts_of(file, chosen.image)
    with foreign(str(file), "Parquet file"):
        metadata = pq.read_metadata(file)
        chunks = [
            metadata.row_group(group).column(place)
            for group in range(metadata.num_row_groups)
            for place in range(metadata.num_columns)
            if metadata.row_group(group).column(place).path_in_schema == f"{chosen.image}.bytes"
        ]
        if all(chunk.statistics is not None and chunk.statistics.null_count == 0 for chunk in chunks):
            return []
        rows = pq.read_table(file, columns=[chosen.image], partitioning=None)[chosen.image].to_pylist()
    return [str(row["path"]) for row in rows if row and row["bytes"] is None and row.get("path")]


class ImageItems:
    """The encoded images of some shards, read only when they are requested."""

    def __init__(self, files: Sequence[Path], chosen: Chosen, places: Places) -> None:
        self._files, self._chosen, self._places = files, chosen, places

    def __call__(self, rows: Sequence[int]) -> Iterable[Encoded]:
        row_numbers, start = np.asarray(rows, dtype=np.int64), 0
        for file in self._files:
            with foreign(str(file), "Parquet file"):
                num = pq.read_metadata(file).num_rows
            inside = row_numbers[(row_numbers >= start) & (row_numbers < start + num)] - start
            if len(inside):
                yield from self._of_file(file, inside)
            start += num

    def names(self, rows: Sequence[int]) -> list[str]:
        """Return names such as `train-0001.parquet, row 17`; no row is read."""
        ends = np.cumsum([pq.read_metadata(file).num_rows for file in self._files])
        shards = np.searchsorted(ends, rows, side="right")
        starts = np.concatenate([[0], ends])
        pairs = zip(rows, shards.tolist(), strict=True)
        return [f"{self._files[shard]}, row {row - starts[shard]}" for row, shard in pairs]

    def _of_file(self, file: Path, rows: np.ndarray) -> Iterable[Encoded]:
        start = 0
        with foreign(str(file), "Parquet file"), pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=ROWS_PER_BATCH, columns=[self._chosen.image]):
                inside = rows[(rows >= start) & (rows < start + len(batch))] - start
                values = batch.column(0)
                # `take` does not support views.
                if pa.types.is_binary_view(values.type) or pa.types.is_string_view(values.type):
                    values = values.cast(
                        pa.large_binary() if pa.types.is_binary_view(values.type) else pa.large_string()
                    )
                for row, value in zip(inside.tolist(), values.take(pa.array(inside)).to_pylist(), strict=True):
                    yield _item(file, start + row, value, self._places[file])
                start += len(batch)


def _item(file: Path, row: int, value: object, places: Mapping[str, Path]) -> Encoded:
    where = f"{file}, row {row}"
    content = value.get("bytes") if isinstance(value, dict) else value
    path = value.get("path") if isinstance(value, dict) else None
    if isinstance(content, bytes):
        return Encoded(where, content)
    text = content if isinstance(content, str) else path
    if isinstance(text, str) and (text or content is not None):
        return Encoded(f"{where}, {text if len(text) < MAX_PATH else text[:40] + ' ...'}", places[text])
    return Encoded(where, b"")
