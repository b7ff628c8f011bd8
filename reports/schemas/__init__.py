"""Defines the columns of every Parquet table: name, type, unit, meaning, and when a value is null.

`docs/reports.md` is generated from these definitions. To add a column, add a line in this package, a key to the table's rows
(`tables/`) and a line to `ADDED` in `reading/parquet_reader.py`. Readers can rely on all columns of a version, in this order, even in
empty tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winnow.reports.schemas import retraining, run, search
from winnow.reports.schemas.column import KINDS, Column, TableSchema
from winnow.reports.schemas.search import FITTED

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["FITTED", "KINDS", "RUN_VERSION", "SCHEMA_VERSION", "TABLES", "Column", "TableSchema", "arrow_schema"]

RUN_VERSION = 1
"""Version of a run folder (study.yaml, study.journal and the .jsonl files)."""
SCHEMA_VERSION = 7
"""Version of the tables. `reading/parquet_reader.py` reads older versions too."""
TABLES: dict[str, TableSchema] = {**search.TABLES, **retraining.TABLES, **run.TABLES}


def arrow_schema(table: str, parameters: Mapping[str, str], metadata: Mapping[str, Any]) -> pa.Schema:
    """Create the Arrow schema of a table.

    Args:
        table: A key of `TABLES`.
        parameters: Kinds of the parameter columns (keys of `KINDS`), by config path. Ignored for tables without parameters.
        metadata: Metadata of the file; keys and values are converted to text.
    """
    import pyarrow as pa

    types = {kind: pa.type_for_alias(name) for kind, name in KINDS.items() if kind not in ("time", "floats")}
    types |= {"time": pa.timestamp("us", tz="UTC"), "floats": pa.list_(pa.float32())}
    schema = TABLES[table]
    fields = [pa.field(c.name, types[c.kind], nullable=c.null is not None) for c in schema.columns]
    if schema.parameters:
        fields += [pa.field(path, types[kind], nullable=True) for path, kind in parameters.items()]
    return pa.schema(fields, metadata={str(key): str(value) for key, value in metadata.items()})
