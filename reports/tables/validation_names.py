"""Keeps the names of a run's validation images once in its folder, and joins them to the predictions of its trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

FILE = Path("predictions", "validation-names.parquet")
"""The file within the run folder, with the columns `index` and `image_name`."""


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
            self._latest = (index, self._names["image_name"].combine_chunks().take(places))
        return self._latest[1]


def _read(file: Path) -> pa.Table | None:
    """Read the file; None if it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            return opened.read()
    except (OSError, pa.ArrowException):
        return None
