"""Runs SQL on the tables of a run or of one training with DuckDB. No database needs to be set up: the current state of the tables is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from winnow.reports.schemas import TABLES
from winnow.reports.tables import training as training_tables
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import duckdb
    import pyarrow as pa

    from winnow.reports.reading.training import TrainingData
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
    return query_tables(run.table, TABLES, sql)


def query_training(training: TrainingData, sql: str) -> pa.Table:
    """Run one query on the tables of a training, as `query` does on those of a run.

    Args:
        training: The training. Its tables are called `training`, `epochs`, `predictions` and `environment`.
        sql: As for `query`.
    """
    return query_tables(lambda name: training_tables.TABLES[name](training), training_tables.TABLES, sql)


def query_tables(table_of: Callable[[str], pa.Table], names: Collection[str], sql: str) -> pa.Table:
    """Run one query on tables, as `query` does.

    Args:
        table_of: Returns a table by its name. It is called only for tables that the query may read.
        names: Names of the tables.
        sql: As for `query`.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise InputError("winnow query needs DuckDB: pip install 'winnow-search[query]'") from error
    connection = _connection(table_of, names, sql)
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type.name not in READING:
            raise InputError(f"query: {ONLY_READS}, but got {_given(statements)}")
        table: pa.Table = connection.sql(sql).to_arrow_table()
    except (duckdb.PermissionException, duckdb.IOException) as error:
        raise InputError(f"query: {ONLY_READS}; DuckDB says: {_in_one_line(error)}") from error
    except duckdb.Error as error:
        tables = f"the tables are {', '.join(names)}"
        raise InputError(f"query: {_in_one_line(error)} ({tables})") from error
    return table


def _connection(table_of: Callable[[str], pa.Table], names: Collection[str], sql: str) -> duckdb.DuckDBPyConnection:
    """Return a database in memory that contains the tables and cannot access files, the network or Python variables."""
    import duckdb

    connection = duckdb.connect(
        ":memory:", config={"enable_external_access": "false", "python_enable_replacements": "false"}
    )
    named = [name for name in names if re.search(rf"\b{name}\b", sql, re.IGNORECASE)]
    for name in named or names:  # a query that names no table may be `show tables`
        connection.register(name, table_of(name))
        connection.execute(f'create view "{name}.parquet" as select * from {name}')
    connection.execute("set lock_configuration = true")
    return connection


def _given(statements: Sequence[duckdb.Statement]) -> str:
    if len(statements) > 1:
        return f"{len(statements)} statements"
    return f"`{statements[0].type.name.lower()}`" if statements else "none"


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())
