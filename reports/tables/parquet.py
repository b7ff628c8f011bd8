"""Writes the tables of a run as Parquet files, each complete or not at all."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.reports.durable import make_folder, write_whole
from winnow.reports.schemas import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from winnow.reports.run_data import RunData


def write_tables(run: RunData, folder: Path, source: str = "") -> None:
    """Write NAME.parquet for every table of `TABLES`.

    Args:
        run: The run.
        folder: Folder of the files, which is created if necessary.
        source: The `fingerprint` of the run's files, for the metadata.
    """
    make_folder(folder)
    for name in TABLES:
        table = run.table(name)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), "winnow.source": source})
        write_table(table, folder / f"{name}.parquet")


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as a Parquet file, complete or not at all.

    Args:
        table: The table.
        path: The file, which is replaced if it exists.

    Raises:
        OSError: It cannot be written.
    """
    import pyarrow.parquet as pq

    write_whole(path, partial(pq.write_table, table, compression="zstd"))
