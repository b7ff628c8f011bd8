"""The tables of several runs as one, with the column `run` to tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from winnow.reports.open_run import read
from winnow.reports.run_data import RunData
from winnow.reports.schemas import TABLES
from winnow.spaces.errors import InputError


def read_runs(folder: Path, table: str) -> pa.Table:
    """The rows of `table` of every run under `folder`, by name of the run; null where a run has no such parameter.

    A parameter that is a number in one run and text in another becomes text. Reports of which nothing but the Parquet files
    is left, and those of older versions, count as well. InputError where there is no run, or no such table.
    """
    if table not in TABLES:
        raise InputError(f"no table {table!r}; there are {', '.join(TABLES)}")
    return _together(_runs(folder), table)


def write_dataset(folder: Path, output: Path) -> None:
    """Every table of every run under `folder` as `output`/TABLE/run=NAME/part-0.parquet, the layout called hive.

    The column `run` is then the name of the folder. A run that is in `output` already is replaced, others stay.
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
        raise InputError(f"{folder}: holds no run (a run is a folder with a study.yaml)")
    return [read(path) for path in sorted(paths | alone)]


def _together(runs: Sequence[RunData], table: str) -> pa.Table:
    tables = [run.table(table).replace_schema_metadata() for run in runs]
    mixed = _mixed(tables)
    return pa.concat_tables([_with_text(each, mixed) for each in tables], promote_options="permissive")


def _mixed(tables: list[pa.Table]) -> set[str]:
    """Columns whose kinds have nothing in common but text."""
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
