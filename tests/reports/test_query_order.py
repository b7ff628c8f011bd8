"""A query that sorts gives the same rows in the same order however the rows of the tables lie: equal values have an order too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.schemas import TABLES
from winnow.reports.tables.query import query_tables
from winnow.reports.text.queries import queries

pytest.importorskip("duckdb", reason="the extra `query` is not installed")

Tables = Callable[[str], pa.Table]


def with_ties(table: pa.Table, part: int) -> pa.Table:
    """Round every second column of numbers that are no integers so that many rows are equal there, but not in all they hold."""
    names = [name for name in table.column_names if pa.types.is_floating(table[name].type)]
    for name in names[part::2]:
        table = table.set_column(table.column_names.index(name), name, pc.round(table[name], 0))
    return table


def shuffled(table_of: Tables, seed: int) -> Tables:
    def of(name: str) -> pa.Table:
        table = table_of(name)
        return table.take(np.random.default_rng(seed).permutation(len(table)))

    return of


def changing(table_of: Tables, names: list[str], asked: dict[str, str]) -> list[str]:
    """Ids of the queries whose answer depends on the order of the rows in the tables."""
    found = []
    for part in range(2):
        tied = {name: with_ties(table_of(name), part) for name in names}
        orders = [tied.__getitem__, *(shuffled(tied.__getitem__, seed) for seed in range(3))]
        for name, sql in asked.items():
            answers = [query_tables(of, names, sql).to_pylist() for of in orders]
            if "order by" not in sql.rsplit(")", 1)[-1]:  # no order is promised
                answers = [sorted(map(str, answer)) for answer in answers]
            if any(answer != answers[0] for answer in answers):
                found.append(name)
    return found


@pytest.mark.parametrize("objective", ["validation_accuracy", pytest.param("validation_loss", marks=pytest.mark.slow)])
def test_the_queries_of_a_run(tmp_path: Path, objective: str) -> None:
    run = reports.read(make_run(tmp_path / "run", objective=objective))
    assert not changing(run.table, list(TABLES), queries(run))
