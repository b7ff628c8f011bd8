"""Reads the Parquet files of a report alone, also those of an older Winnow: the run folder they were made from may be gone.

Where it is not, its report stands for it as long as it is of exactly the files that are there: see `read_current`.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.reading.run import RunData
from winnow.reports.schemas import SCHEMA_VERSION, TABLES, arrow_schema
from winnow.spaces.epoch_figures import METRICS
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES = ("study.yaml", "study.journal", "epochs.jsonl", "retrain.jsonl")
"""What the tables are made from; predictions never change after their line in retrain.jsonl."""
WORTHWHILE_BYTES = 5_000_000
"""The files of a smaller run are read sooner than Arrow is imported."""

ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "trials": {"in_space": True, "audit_objective": None, "audited": False, "worker_losses": 0, "micro_batches": 1},
        "epochs": {"cpus": None, "gpus": None},
        "retrains": {"threads": None, "micro_batches": 1, "device": None},
        "predictions": {"image": None},
    },
}
"""{version: {table: {column: what it is in an older file}}}: the columns that came with each version of the tables."""


def fingerprint(path: Path) -> str:
    """Of all bytes of the run in folder `path` that its tables are made from: 125 MB take a seventh of a second."""
    return json.dumps({name: (size, _digest(path / name)) for name, size in _sizes(path).items()})


def read_current(path: Path) -> RunData | None:
    """The run in folder `path` from its report, without a replay; None where that is not whole, or not of the files that are there now."""
    files = [path / "report" / f"{name}.parquet" for name in TABLES]
    if sum(_sizes(path).values()) < WORTHWHILE_BYTES or not all(file.is_file() for file in files):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = [pq.read_metadata(file).metadata or {} for file in files]
        versions = {metadata.get(b"winnow.schema_version") for metadata in found}
        sources = {metadata.get(b"winnow.source") for metadata in found}
        source = sources.pop()
        if sources or source is None or versions != {str(SCHEMA_VERSION).encode()}:
            return None
        sizes = {name: size for name, (size, _) in json.loads(source).items()}
        if sizes != _sizes(path) or source.decode() != fingerprint(path):
            return None
        return read_report(path / "report")
    except (OSError, pa.ArrowException, InputError):
        return None


def _sizes(path: Path) -> dict[str, int]:
    return {name: (path / name).stat().st_size for name in SOURCES if (path / name).is_file()}


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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
    for figure in METRICS:  # a metric that came later has no value in an older file
        if figure.name in own and figure.name not in table.column_names:
            table = table.append_column(schema.field(figure.name), pa.nulls(len(table), schema.field(figure.name).type))
    absent = [column for column in own if column not in table.column_names]
    if absent:
        raise InputError(f"{file}: has no column {', '.join(absent)}, which schema_version {version} has")
    parameters = [column for column in table.column_names if column not in own] if TABLES[name].parameters else []
    return table.select([*own, *parameters])
