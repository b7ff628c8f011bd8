"""Reads a run from the Parquet files of its report, which an older Winnow may have written.

The run folder need not exist. If it does, the report is read instead of it as long as the run's files are unchanged: see
`read_current`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports import rows as plain
from winnow.reports.facts import has_cross_entropy
from winnow.reports.reading.files import is_present
from winnow.reports.reading.study_file import check_study
from winnow.reports.run_data import Row, RunData
from winnow.reports.schemas import FITTED, SCHEMA_VERSION, TABLES, arrow_schema
from winnow.reports.schemas.search import EXPECTED_END, FRONT_METRICS, FRONT_TESTS
from winnow.spaces.epoch_figures import METRICS, OWN_METRIC, TEST_METRICS
from winnow.spaces.errors import InputError
from winnow.spaces.gpu_facts import GPU_FACT_NAMES
from winnow.spaces.space import Space

if TYPE_CHECKING:
    import pyarrow as pa

SOURCES = ("study.yaml", "study.journal", "epochs.jsonl", "retrain.jsonl")
"""Files from which the tables are created. Predictions never change after their line in retrain.jsonl."""
WORTHWHILE_BYTES = 5_000_000
"""Total size of these files below which reading them is quicker than importing Arrow."""

LATER_TABLES = ("trials", "epochs", "predictions", "validation")
"""Long tables, of which most views of a run need a few columns or none."""

_NO_GPU_FACTS = dict.fromkeys(GPU_FACT_NAMES)
OF_OBJECTIVE = {
    **{f"test_objective{end}": f"test_accuracy{end}" for end in ("", "_low", "_high")},
    **{f"objective_gain{end}": f"gain{end}" for end in ("", "_low", "_high")},
    "objective_gap": "gap",
}
"""The columns of `winners` about the objective, and the columns about the accuracy that they equal if accuracy is the objective."""
ADDED: dict[int, dict[str, dict[str, Any]]] = {
    2: {
        "trials": {"in_space": True, "audit_objective": None, "audited": False, "worker_losses": 0, "micro_batches": 1},
        "epochs": {"cpus": None, "gpus": None},
        "retrains": {"threads": None, "micro_batches": 1, "device": None},
        "predictions": {"image": None},
    },
    3: {
        "trials": {"node": None, "device": None, **_NO_GPU_FACTS},
        "epochs": _NO_GPU_FACTS,
        "retrains": {"node": None, **_NO_GPU_FACTS, "keep_validation": False},
        "winners": {
            "num_test_images": None,
            "largest_class": None,
            "num_one_class": None,
            **dict.fromkeys(TEST_METRICS),
        },
        "importance": {"values": "last"},
        "predictions": {"image_name": None},
    },
    4: {"trials": {"multiply_adds": None, "latency_ms": None, "epoch_seconds": None}},
    5: {
        "trials": {"estimated_end": None},
        "importance": {"importance_std": None},
        "winners": dict.fromkeys(OF_OBJECTIVE),
        "retrains": dict.fromkeys(TEST_METRICS),
    },
    6: {"trials": dict.fromkeys(EXPECTED_END)},
    7: {
        "winners": {
            "num_repeats": 1,
            "num_incomplete_repeats": 0,
            "test_objective_images": None,
            "num_objective_seeds": 0,
        },
        "retrains": {"weights_epoch": None},
        "validation": {"image_name": None},
        "front": dict.fromkeys([*FRONT_METRICS, *(name for name in FRONT_TESTS if name != "test_accuracy")]),
    },
}
"""Columns added by each version of the tables: {version: {table: {column: its value in an older file}}}."""


@dataclass(frozen=True)
class FromParquet:
    """A `TableSource` over the tables of a report."""

    folder: Path
    tables: Mapping[str, pa.Table]
    """The tables that were read; the others are read from `folder` when they are requested."""

    def table(self, name: str) -> pa.Table:
        return self.tables[name] if name in self.tables else read_table(self.folder / f"{name}.parquet")

    def trial_rows(self) -> list[Row]:
        own = [column.name for column in TABLES["trials"].columns if column.name not in FITTED]
        table = self.tables.get("trials")
        if table is not None:
            return plain.lazy_rows(own, len(table), table.column)
        import pyarrow.parquet as pq

        file = self.folder / "trials.parquet"
        with _readable(file):
            opened = pq.ParquetFile(file)
        if not set(own) <= set(opened.schema_arrow.names):  # of a version that did not have a metric yet
            table = self.table("trials")
            return plain.lazy_rows(own, len(table), table.column)

        def read(name: str) -> pa.ChunkedArray:
            with _readable(file):
                return opened.read(columns=[name]).column(name)

        return plain.lazy_rows(own, opened.metadata.num_rows, read)

    def epochs_of_trial(self, number: int) -> list[Row]:
        import pyarrow.compute as pc

        search = (pc.field("trial") == number) & (pc.field("phase") == "search")
        return plain.rows(self.table("epochs").filter(search))

    def winner_rows(self) -> list[Row]:
        return self._own_rows("winners")

    def retrain_rows(self) -> list[Row]:
        return self._own_rows("retrains")

    def _own_rows(self, name: str) -> list[Row]:
        own = [column.name for column in TABLES[name].columns]
        return plain.rows(self.table(name).select(own))


def fingerprint(path: Path) -> str:
    """Return the sizes, times and SHA-256 digests of the files from which the tables of a run are created, as JSON. 125 MB take 0.14 s.

    Raises:
        InputError: A file cannot be read.
    """
    try:
        return json.dumps({name: (*stamp, _digest(path / name)) for name, stamp in _stamps(path).items()})
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read ({error.strerror or error})") from error


def read_current(path: Path) -> RunData | None:
    """Read the run in the folder `path` from its report, if the report is complete and up to date.

    Args:
        path: A run folder.

    Returns:
        The run; None if the files of the run have changed since the report was written, if a table is missing, damaged or from
        another version, or if the run is so small that reading its own files is quicker.
    """
    files = [path / "report" / f"{name}.parquet" for name in TABLES]
    if sum(size for size, _ in _stamps(path).values()) < WORTHWHILE_BYTES or not all(file.is_file() for file in files):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = [pq.read_metadata(file).metadata or {} for file in files]
        versions = {each.get(b"winnow.schema_version") for each in metadata}
        sources = {each.get(b"winnow.source") for each in metadata}
        source = sources.pop()
        if sources or source is None or versions != {str(SCHEMA_VERSION).encode()}:
            return None
        if not is_unchanged(path, json.loads(source)):
            return None
        return read_report(path / "report", later=LATER_TABLES)
    except (OSError, ValueError, pa.ArrowException, InputError):
        return None


def _stamps(path: Path) -> dict[str, tuple[int, int]]:
    """Size of each file, and the time of its last change, which no program can set."""
    stats = {name: (path / name).stat() for name in SOURCES if (path / name).is_file()}
    return {name: (stat.st_size, stat.st_ctime_ns) for name, stat in stats.items()}


def is_unchanged(path: Path, source: Mapping[str, tuple[int, int, str]]) -> bool:
    """Return whether the files of a run are those of a fingerprint. A file of another time, such as a copy, is read to compare its digest.

    Args:
        path: The run folder.
        source: What `fingerprint` returned, read as JSON.
    """
    stamps = _stamps(path)
    if {name: size for name, (size, *_) in source.items()} != {name: size for name, (size, _) in stamps.items()}:
        return False
    return all(time == stamps[name][1] or digest == _digest(path / name) for name, (_, time, digest) in source.items())


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_report(folder: Path, later: Collection[str] = ()) -> RunData:
    """Read the run whose tables are in `folder`.

    Args:
        folder: A folder with the Parquet files of a report.
        later: Tables that are read only when they are requested, so that a damaged one is noticed only then.

    Returns:
        The run. Tables that are missing are empty and mentioned in its `notes`.

    Raises:
        InputError: A file cannot be read, is not a table of a Winnow report, or was written by a newer Winnow.
    """
    tables: dict[str, pa.Table] = {}
    missing = []
    for name in TABLES:
        file = folder / f"{name}.parquet"
        if is_present(file):
            if name not in later:
                tables[name] = read_table(file)
        else:
            missing.append(f"{file.name} is missing: the report is incomplete, or an older version of Winnow wrote it")
    metadata = _metadata(folder / "trials.parquet", tables.get("trials"))
    study, recorded_notes = _study(metadata, folder / "trials.parquet")
    parameters = Space.from_tree(study["space"], str(folder)).columns() if study["space"] else {}
    for name in TABLES.keys() - tables.keys() - set(later):
        schema = TABLES[name]
        tables[name] = arrow_schema(name, parameters if schema.parameters else {}, {}).empty_table()
    notes = (*recorded_notes, *missing)
    return RunData(path=folder.parent, study=study, notes=notes, source=FromParquet(folder, tables))


def read_table(file: Path | str) -> pa.Table:
    """Read one table. Columns that its version did not have yet are filled in.

    Raises:
        InputError: The file cannot be read, is not a table of a Winnow report, or was written by a newer Winnow.
    """
    import pyarrow.parquet as pq

    file = Path(file)
    with _readable(file):
        table = pq.ParquetFile(file).read()
    metadata = _metadata(file, table)
    version, name = int(metadata["winnow.schema_version"]), metadata["winnow.table"]
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{file}: the tables have schema_version {version}, but this Winnow reads up to {SCHEMA_VERSION}; upgrade winnow-search"
        )
    return _migrated(table, name, version, file)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Turn errors of reading a Parquet file into an `InputError`. What is not a file is refused first."""
    import pyarrow as pa

    is_present(file)
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"{file}: cannot be read as Parquet ({' '.join(str(error).split())[:200]}); `winnow report RUN` writes it again"
        ) from error


def _metadata(file: Path, table: pa.Table | None) -> dict[str, str]:
    """The metadata of a table, or of its file if it was not read."""
    import pyarrow.parquet as pq

    schema = pq.read_schema(file) if table is None else table.schema
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    if metadata.get("winnow.table") not in TABLES or not metadata.get("winnow.schema_version", "").isdigit():
        raise InputError(f"{file}: not a table of a Winnow report (its metadata has no winnow.schema_version)")
    return metadata


def _study(metadata: Mapping[str, str], file: Path) -> tuple[Row, list[str]]:
    """Return the content of study.yaml and the notes from the metadata of a table.

    Raises:
        InputError: They are damaged.
    """
    damaged = f"{file}: the provenance in its metadata is damaged"
    try:
        study = json.loads(metadata["winnow.provenance"]) | {"space": json.loads(metadata.get("winnow.space", "{}"))}
        notes = [str(note) for note in json.loads(metadata.get("winnow.notes", "[]"))]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{damaged} ({error!r:.100}); `winnow report RUN` writes it again") from None
    check_study(study, damaged)
    return study, notes


def _objective(table: pa.Table) -> str | None:
    provenance = json.loads((table.schema.metadata or {}).get(b"winnow.provenance", b"{}"))
    return (provenance.get("settings") or {}).get("objective")


def _objective_images(table: pa.Table) -> list[int | None]:
    """Return the number of test images behind the interval of each row's objective, as far as tables up to version 6 tell."""
    objective = _objective(table)
    if objective == OWN_METRIC:
        return [None] * len(table)
    return [
        row["num_test_images"] if objective != "validation_loss" or has_cross_entropy(row) else None
        for row in table.select(["num_test_images", "config"]).to_pylist()
    ]


def _migrated(table: pa.Table, name: str, version: int, file: Path) -> pa.Table:
    """Convert a table to exactly the columns of this version, followed by the parameter columns."""
    import pyarrow as pa

    own = [column.name for column in TABLES[name].columns]
    schema = arrow_schema(name, {}, {})
    for newer in range(version + 1, SCHEMA_VERSION + 1):
        for column, value in ADDED.get(newer, {}).get(name, {}).items():
            table = table.append_column(schema.field(column), pa.array([value] * len(table), schema.field(column).type))
    if name == "winners" and version < 5 and _objective(table) == "validation_accuracy":
        for column, same in OF_OBJECTIVE.items():
            table = table.set_column(table.column_names.index(column), schema.field(column), table[same])
    if name == "winners" and version < 7:
        place, field = table.column_names.index("test_objective_images"), schema.field("test_objective_images")
        table = table.set_column(place, field, pa.array(_objective_images(table), field.type))
        place = table.column_names.index("num_objective_seeds")
        table = table.set_column(place, schema.field("num_objective_seeds"), table["num_seeds"])
    for figure in METRICS:  # a metric that was added later has no value in an older file
        if figure.name in own and figure.name not in table.column_names:
            table = table.append_column(schema.field(figure.name), pa.nulls(len(table), schema.field(figure.name).type))
    absent = [column for column in own if column not in table.column_names]
    if absent:
        raise InputError(f"{file}: has no column {', '.join(absent)}, which schema_version {version} has")
    parameters = [column for column in table.column_names if column not in own] if TABLES[name].parameters else []
    return table.select([*own, *parameters])
