"""The queries of docs/queries.md run, and pandas, Polars and DuckDB give the same; several runs read as one."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.many_runs import _mixed, _with_text
from winnow.reports.tables.parquet import write_tables
from winnow.spaces.errors import InputError

TEXT = (REPOSITORY / "docs" / "queries.md").read_text(encoding="utf-8")
QUERIES = {
    section.splitlines()[0]: dict(re.findall(r"```python (\w+)\n(.*?)```", section, re.S))
    for section in TEXT.split("\n## ")[1:]
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Three runs, one of which was searched but not retrained."""
    folder = tmp_path_factory.mktemp("several") / "runs"
    for seed, stage in enumerate(("retrained", "retrained", "searched")):
        path = make_run(folder / f"run-{seed}", stage=stage, trials=20, seed=seed)
        write_tables(reports.read(path), path / "report")
    return folder


def test_every_query_is_there_three_times():
    assert len(QUERIES) == 4
    assert all(list(blocks) == ["pandas", "polars", "duckdb"] for blocks in QUERIES.values())


@pytest.mark.parametrize("title", QUERIES)
def test_three_engines_agree(title, runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    results = {}
    for engine, block in QUERIES[title].items():
        scope: dict[str, object] = {}
        exec(compile(block, f"{title} in {engine}", "exec"), scope)
        results[engine] = _as_pandas(scope["result"])
    assert len(results["pandas"]) > 0
    for engine in ("polars", "duckdb"):
        pd.testing.assert_frame_equal(results["pandas"], results[engine], check_dtype=False, rtol=1e-12)


def _as_pandas(result: object) -> pd.DataFrame:
    if hasattr(result, "to_pandas"):
        result = result.to_pandas()
    elif hasattr(result, "df"):
        result = result.df()
    assert isinstance(result, pd.DataFrame)
    return result.reset_index(drop=True).astype({c: object for c in result.columns if result[c].dtype.kind not in "if"})


@pytest.mark.parametrize("table", ["trials", "epochs", "winners", "environment"])
def test_several_runs_are_their_rows_together(runs, table):
    together = reports.read_runs(runs, table).to_pylist()
    apart = [row for path in sorted(runs.iterdir()) for row in reports.read(path).table(table).to_pylist()]
    assert together == apart
    assert {row["run"] for row in together} >= {"run-0", "run-1"}


def test_a_parameter_of_two_kinds_becomes_text():
    tables = [
        pa.table({"a": [1, 2], "b": [1, 2]}),
        pa.table({"a": ["x"], "b": [0.5]}),
        pa.table({"c": [1]}),
        pa.table({"a": [True]}),
    ]
    mixed = _mixed(tables)
    assert mixed == {"a"}
    joined = pa.concat_tables([_with_text(each, mixed) for each in tables], promote_options="permissive")
    assert joined.to_pydict() == {
        "a": ["1", "2", "x", None, "true"],
        "b": [1.0, 2.0, 0.5, None, None],
        "c": [None, None, None, 1, None],
    }


def test_bad_input_is_named(runs, tmp_path):
    with pytest.raises(InputError, match="contains no run"):
        reports.read_runs(tmp_path)
    with pytest.raises(InputError, match="no table 'trails'; the tables are trials"):
        reports.read_runs(runs, "trails")
