"""Keeps the names of a run's validation images once in its folder, and joins them to the predictions of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from winnow.reports.reading.archives import is_bomb
from winnow.reports.reading.files import is_present
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

FILE = Path("predictions", "validation-names.parquet")
"""The file within the run folder, with the columns `index` and `image_name`."""
BYTES_PER_ROW = 12
"""Memory of an index and of the place of a name."""
LONGEST_NAME = 4096
"""Largest number of bytes of a name: the longest path of a file on Linux."""


def write_validation_names(run: Path, names: Mapping[int, str]) -> None:
    """Write the names of the validation images, replacing those of an earlier start.

    200,000 of 1,000,000 images take 1.6 MB and about a second; the files of the trials do not repeat them.

    Args:
        run: The run folder.
        names: Name of each image by its index, as in the files of `winnow.reports.reading.predictions.validation_files`.

    Raises:
        OSError: The file cannot be written.
    """
    import pyarrow as pa

    from winnow.reports.durable import make_folder
    from winnow.reports.tables.parquet import write_table

    columns = {
        "index": pa.array(list(names), pa.int64()),
        "image_name": pa.array(list(names.values()), pa.string()),
    }
    make_folder((run / FILE).parent)
    write_table(pa.table(columns), run / FILE)


class ValidationNames:
    """The names of a run's validation images, by index."""

    def __init__(self, run: Path) -> None:
        """Read the names.

        Args:
            run: The run folder. A run of an older Winnow has no names.

        Raises:
            InputError: The file of the names is not a file, or would grow far more than names do.
        """
        self._names = _read(run / FILE)
        self._latest: tuple[np.ndarray, pa.Array] | None = None

    def of(self, index: np.ndarray) -> pa.Array:
        """Return the names of images.

        Args:
            index: Their indices, int64 [n].

        Returns:
            n strings; null for an image whose name is not recorded.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if self._names is None:
            return pa.nulls(len(index), pa.string())
        # All trials of a run have the same images: their names share one array, which would otherwise outweigh their probabilities.
        if self._latest is None or not np.array_equal(self._latest[0], index):
            places = pc.index_in(pa.array(index, pa.int64()), value_set=self._names["index"])
            self._latest = (index, self._names["image_name"].combine_chunks().take(places).cast(pa.string()))
        return self._latest[1]


def _read(file: Path) -> pa.Table | None:
    """Read the file; None if it is missing or damaged.

    Raises:
        InputError: It is not a file, or would grow far more than names do.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if not is_present(file):
        return None
    try:
        # As a dictionary: a name that is repeated takes the memory of one.
        with pq.ParquetFile(file, read_dictionary=["image_name"]) as opened:
            about = opened.metadata
            unpacked = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            if is_bomb(file, max(unpacked, about.num_rows * BYTES_PER_ROW)):
                raise InputError(
                    f"{file}: unpacks to {about.num_rows:,} names, which are more than real files of its size hold"
                )
            table = opened.read(columns=["index", "image_name"])
    except (OSError, KeyError, pa.ArrowException):  # KeyError: a column is missing
        return None
    if table.column_names != ["index", "image_name"] or table.schema.field("index").type != pa.int64():
        return None
    names = table["image_name"].combine_chunks()
    if not pa.types.is_dictionary(names.type) or not pa.types.is_string(names.type.value_type):
        return None
    longest = pc.max(pc.binary_length(names.dictionary)).as_py() or 0
    return None if longest > LONGEST_NAME else table.set_column(1, "image_name", names)
