"""Reads the Parquet files of a report alone, also those of an older Winnow: the run folder they were made from may be gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.run import RunData
from reports.schemas import SCHEMA_VERSION, TABLES, arrow_schema
from spaces.errors import InputError
from spaces.space import Space

if TYPE_CHECKING:
    import pyarrow as pa

ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "trials": {"in_space": True, "audit_objective": None, "audited": False, "worker_losses": 0, "micro_batches": 1},
        "epochs": {"cpus": None, "gpus": None},
        "retrains": {"threads": None, "micro_batches": 1, "device": None},
        "predictions": {"image": None},
    },
}
"""{version: {table: {column: what it is in an older file}}}: the columns that came with each version of the tables."""


def read_report(folder: Path) -> RunData:
    """The run of which `folder` holds the tables. InputError where a file cannot be read, or is of a newer version."""
    tables: dict[str, pa.Table] = {}
    missing = []
    for name in TABLES:
        file = folder / f"{name}.parquet"
        if file.is_file():
            tables[name] = read_table(file)
        else:
            missing.append(f"{file.name} is missing: the report was not written to its end, or by an older Winnow")
    metadata = _metadata(tables["trials"], folder / "trials.parquet")
    study = json.loads(metadata["winnow.provenance"]) | {"space": json.loads(metadata.get("winnow.space", "{}"))}
    parameters = Space.from_tree(study["space"], str(folder)).columns() if study["space"] else {}
    for name in TABLES.keys() - tables.keys():
        schema = TABLES[name]
        tables[name] = arrow_schema(name, parameters if schema.parameters else {}, {}).empty_table()
    notes = (*json.loads(metadata.get("winnow.notes", "[]")), *missing)
    return RunData(folder.parent, study, (), (), (), notes, stored=True, made=tables)


def read_table(file: Path | str) -> pa.Table:
    """One table with the columns of this version, whatever version wrote the file. InputError as for `read_report`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = Path(file)
    try:
        table = pq.ParquetFile(file).read()
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file}: cannot be read as Parquet ({' '.join(str(error).split())[:200]}); `winnow report RUN` writes it again"
        ) from error
    metadata = _metadata(table, file)
    version, name = int(metadata["winnow.schema_version"]), metadata["winnow.table"]
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{file}: the tables have schema_version {version}, but this Winnow reads up to {SCHEMA_VERSION}; upgrade winnow-search"
        )
    return _migrated(table, name, version, file)


def _metadata(table: pa.Table, file: Path) -> dict[str, str]:
    found = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    if found.get("winnow.table") not in TABLES or not found.get("winnow.schema_version", "").isdigit():
        raise InputError(f"{file}: is no table of a Winnow report (there is no winnow.schema_version in its metadata)")
    return found


def _migrated(table: pa.Table, name: str, version: int, file: Path) -> pa.Table:
    """With exactly the columns of this version, then those of the parameters."""
    import pyarrow as pa

    own = [column.name for column in TABLES[name].columns]
    schema = arrow_schema(name, {}, {})
    for newer in range(version + 1, SCHEMA_VERSION + 1):
        for column, value in ADDED.get(newer, {}).get(name, {}).items():
            table = table.append_column(schema.field(column), pa.array([value] * len(table), schema.field(column).type))
    absent = [column for column in own if column not in table.column_names]
    if absent:
        raise InputError(f"{file}: has no column {', '.join(absent)}, which schema_version {version} has")
    parameters = [column for column in table.column_names if column not in own] if TABLES[name].parameters else []
    return table.select([*own, *parameters])
