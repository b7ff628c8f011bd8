"""Runs SQL on the tables of a run with DuckDB. No database is set up: the tables are read as they are now."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from winnow.reports.schemas import TABLES
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

    from winnow.reports.run_data import RunData


def query(run: RunData, sql: str) -> pa.Table:
    """Run one query.

    Args:
        run: The run. Its tables are called `trials`, `epochs`, ... and also `trials.parquet`, ..., as in the queries of the report.
        sql: A query in DuckDB's SQL.

    Returns:
        The result as an Arrow table.

    Raises:
        InputError: DuckDB is not installed, or refuses the query.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise InputError("winnow query needs DuckDB: pip install 'winnow-search[query]'") from error
    connection = duckdb.connect(":memory:")
    for name in TABLES:
        if re.search(rf"\b{name}\b", sql):
            connection.register(name, run.table(name))
            connection.execute(f'create view "{name}.parquet" as select * from {name}')
    try:
        result = connection.sql(sql)
        if result is None:
            raise InputError("query: this statement gives no table; ask with `select`")
        table: pa.Table = result.to_arrow_table()
    except duckdb.Error as error:
        tables = f"the tables are {', '.join(TABLES)}"
        raise InputError(f"query: {' '.join(str(error).split())} ({tables})") from error
    return table
