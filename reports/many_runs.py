"""Combines the tables of several runs; the column `run` distinguishes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from winnow.reports.open_run import read
from winnow.reports.run_data import RunData
from winnow.reports.schemas import TABLES
from winnow.spaces.errors import InputError


def read_runs(folder: Path, table: str) -> pa.Table:
    """Read one table of every run under a folder as one table.

    Runs of which only the Parquet files of the report remain are included, even if an older version wrote them.

    Args:
        folder: A folder of runs, such as `runs/`.
        table: A key of `winnow.reports.schemas.TABLES`.

    Returns:
        The rows of all runs, ordered by the name of the run. A parameter is null for runs that do not have it. If it is a number in
        one run and text in another, it is text in the table.

    Raises:
        InputError: There is no run under `folder`, or no such table.
    """
    if table not in TABLES:
        raise InputError(f"no table {table!r}; the tables are {', '.join(TABLES)}")
    return _together(_runs(folder), table)


def write_dataset(folder: Path, output: Path) -> None:
    """Write every table of every run under a folder as one partitioned data set.

    The files are `output`/TABLE/run=NAME/part-0.parquet (the Hive layout), so the column `run` is the name of a folder. A run
    that `output` already contains is replaced; other runs stay.

    Args:
        folder: A folder of runs, such as `runs/`.
        output: The folder of the data set.

    Raises:
        InputError: There is no run under `folder`.
    """
    import pyarrow.dataset as ds

    runs = _runs(folder)
    for name in TABLES:
        ds.write_dataset(
            _together(runs, name),
            output / name,
            format="parquet",
            partitioning=ds.partitioning(pa.schema([("run", pa.string())]), flavor="hive"),
            existing_data_behavior="delete_matching",
        )


def _runs(folder: Path) -> list[RunData]:
    paths = {file.parent for file in folder.glob("*/study.yaml")}
    alone = {file.parent for file in folder.glob("*/report/trials.parquet")} - {path / "report" for path in paths}
    if not paths | alone:
        raise InputError(f"{folder}: contains no run (a run is a folder with a study.yaml)")
    return [read(path) for path in sorted(paths | alone)]


def _together(runs: Sequence[RunData], table: str) -> pa.Table:
    tables = [run.table(table).replace_schema_metadata() for run in runs]
    mixed = _mixed(tables)
    return pa.concat_tables([_with_text(each, mixed) for each in tables], promote_options="permissive")


def _mixed(tables: list[pa.Table]) -> set[str]:
    """Return the columns whose types differ so much that only text can hold all values."""
    kinds: dict[str, set[str]] = {}
    for table in tables:
        for field in table.schema:
            if not pa.types.is_null(field.type):
                number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
                kinds.setdefault(field.name, set()).add("number" if number else str(field.type))
    return {name for name, of in kinds.items() if len(of) > 1}


def _with_text(table: pa.Table, names: set[str]) -> pa.Table:
    for name in names & set(table.column_names):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table.column(name).cast(pa.string()))
    return table
