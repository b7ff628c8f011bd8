"""Runs SQL on the tables of a run with DuckDB. No database needs to be set up: the current state of the tables is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from winnow.reports.schemas import TABLES
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb
    import pyarrow as pa

    from winnow.reports.run_data import RunData


READING = ("SELECT", "EXPLAIN", "MULTI")
"""Kinds of statements that only read. DuckDB counts `pivot` as MULTI, and `describe` and `show tables` as SELECT."""
ONLY_READS = (
    "one statement that reads the run's tables is allowed (`select`, `from`, `with`, `describe`), and no other file"
)


def query(run: RunData, sql: str) -> pa.Table:
    """Run one query.

    Args:
        run: The run. Its tables are called `trials`, `epochs`, ... and also `trials.parquet`, ..., as in the queries of the report.
        sql: One read-only statement in DuckDB's SQL. Only the tables of the run can be read.

    Returns:
        The result as an Arrow table.

    Raises:
        InputError: DuckDB is not installed or rejects the query, or the query does more than read the tables.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise InputError("winnow query needs DuckDB: pip install 'winnow-search[query]'") from error
    connection = _connection(run, sql)
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name not in READING:
            raise InputError(f"query: {ONLY_READS}, but got {_given(statements)}")
        table: pa.Table = connection.sql(sql).to_arrow_table()
    except (duckdb.PermissionException, duckdb.IOException) as error:
        raise InputError(f"query: {ONLY_READS}; DuckDB says: {_in_one_line(error)}") from error
    except duckdb.Error as error:
        tables = f"the tables are {', '.join(TABLES)}"
        raise InputError(f"query: {_in_one_line(error)} ({tables})") from error
    return table


def _connection(run: RunData, sql: str) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that contains the tables of the run and cannot access files, the network or Python variables."""
    import duckdb

    connection = duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"}
    )
    named = [name for name in TABLES if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    for name in named or TABLES:  # a query that names no table may be `show tables`
        connection.register(name, run.table(name))
        connection.execute(f'create view "{name}.parquet" as select * from {name}')
    connection.execute("set lock_configuration = true")
    return connection


def _given(statements: Sequence[duckdb.Statement]) -> str:
    if len(statements) > 1:
        return f"{len(statements)} statements"
    return f"`{statements[0].type.name.lower()}`" if statements else "none"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
