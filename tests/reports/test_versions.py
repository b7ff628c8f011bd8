"""Reports read back from their Parquet files: of this version, an older one, a newer one, damaged; several runs as one data set."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.conftest import REPOSITORY
from tests.helpers.fronts import make_front_run
from tests.helpers.make_run import NUM_TEST, make_run
from winnow import reports
from winnow.reports.figures.front import front_info
from winnow.reports.reading.parquet_reader import ADDED, OF_OBJECTIVE, read_table
from winnow.reports.schemas import SCHEMA_VERSION, TABLES, arrow_schema
from winnow.reports.tables.parquet import write_tables
from winnow.spaces.epoch_figures import METRICS
from winnow.spaces.errors import InputError

VERSION_1 = REPOSITORY / "tests" / "reports" / "report_v1"
"""Written by the Winnow that had version 1 (commit a1049fa) from a run of tests/helpers/make_run.py with 12 trials and 30 test images."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> reports.RunData:
    folder = make_run(tmp_path_factory.mktemp("runs") / "one")
    write_tables(reports.read(folder), folder / "report")
    return reports.read(folder)


def test_a_report_alone_gives_the_tables_of_its_run(run):
    alone = reports.read(run.path / "report")
    for name in TABLES:
        assert alone.table(name).equals(run.table(name)), name
    assert (alone.name, alone.path, alone.settings, alone.space.tree) == (
        run.name,
        run.path,
        run.settings,
        run.space.tree,
    )
    assert reports.winners_table(run.path / "report")[0]["test_accuracy"] == run.rows("winners")[0]["test_accuracy"]


@pytest.mark.parametrize("name", sorted(file.stem for file in VERSION_1.glob("*.parquet")))
def test_version_1_is_read_with_the_columns_of_today(name):
    written = pq.read_table(VERSION_1 / f"{name}.parquet")
    assert written.schema.metadata[b"winnow.schema_version"] == b"1"
    table = reports.read(VERSION_1).table(name)
    own = [column.name for column in TABLES[name].columns]
    assert table.column_names[: len(own)] == own, (
        "a new column needs its line in reports/reading/parquet_reader.py, ADDED"
    )
    assert table.schema.field(own[-1]).type == arrow_schema(name, {}, {}).field(own[-1]).type
    assert table.select(written.column_names).to_pylist() == written.to_pylist()
    added = {column: value for columns in ADDED.values() for column, value in columns.get(name, {}).items()}
    later = {metric.name for metric in METRICS} & set(own) - set(written.column_names)
    assert set(table.column_names) - set(written.column_names) == set(added) | later
    for column, value in added.items():
        of_accuracy = {**OF_OBJECTIVE, "num_objective_seeds": "num_seeds"}  # the run was searched by accuracy
        same = of_accuracy.get(column) if name == "winners" else None
        expected = [value] * len(table) if same is None else table.column(same).to_pylist()
        assert table.column(column).to_pylist() == expected


def test_a_newer_version_is_refused(run, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(run.path / "report", folder)
    table = pq.read_table(folder / "winners.parquet")
    version = b"%d" % (SCHEMA_VERSION + 1)
    newer = table.replace_schema_metadata({**table.schema.metadata, b"winnow.schema_version": version})
    pq.write_table(newer, folder / "winners.parquet")
    said = rf"winners\.parquet: the tables have schema_version {SCHEMA_VERSION + 1}, .* up to {SCHEMA_VERSION}; upgrade"
    with pytest.raises(InputError, match=said):
        reports.read(folder)


def test_a_front_from_before_it_had_metrics_is_read(tmp_path):
    """Version 6, whose fronts were of accuracy and costs."""
    folder = make_front_run(tmp_path / "one", ["validation_accuracy", {"minimize": "parameters"}], stage="retrained")
    run = reports.read(folder)
    write_tables(run, folder / "report")
    file = folder / "report" / "front.parquet"
    table = pq.read_table(file)
    added = list(ADDED[7]["front"])
    older = table.drop_columns(added)
    pq.write_table(older.replace_schema_metadata({**table.schema.metadata, b"winnow.schema_version": b"6"}), file)
    alone = reports.read(folder / "report")
    assert alone.table("front").column_names == table.column_names
    assert alone.table("front").select(older.column_names).equals(run.table("front").select(older.column_names))
    assert all(row[name] is None for row in alone.rows("front") for name in added)
    assert front_info(alone, "num_parameters") == front_info(run, "num_parameters")
    assert front_info(run, "num_parameters").tested


@pytest.mark.parametrize(
    ("objective", "loss", "images"),
    [
        ("validation_accuracy", "margin", NUM_TEST),
        ("validation_loss", "cross_entropy", NUM_TEST),
        ("validation_loss", "margin", None),
        ("validation_own_metric", "cross_entropy", None),
    ],
)
def test_version_6_did_not_record_the_seeds_and_images_behind_the_objective(run, tmp_path, objective, loss, images):
    table = pq.read_table(run.path / "report" / "winners.parquet")
    metadata = {**table.schema.metadata, b"winnow.schema_version": b"6"}
    metadata[b"winnow.provenance"] = json.dumps({"settings": {"objective": objective}}).encode()
    configs = [json.dumps(json.loads(text) | {"loss": {"name": loss}}) for text in table["config"].to_pylist()]
    older = table.set_column(table.column_names.index("config"), "config", pa.array(configs))
    older = older.drop_columns(list(ADDED[7]["winners"])).replace_schema_metadata(metadata)
    pq.write_table(older, tmp_path / "winners.parquet")
    read = read_table(tmp_path / "winners.parquet")
    assert read["test_objective_images"].to_pylist() == [images] * len(table)
    assert read["num_objective_seeds"].to_pylist() == [3, 3, 2, 3]


def test_a_report_that_is_not_whole(run, tmp_path):
    folder = tmp_path / "report"
    shutil.copytree(run.path / "report", folder)
    (folder / "predictions.parquet").unlink()
    found = reports.read(folder)
    assert len(found.predictions) == 0
    assert [note for note in found.notes if note.startswith("predictions.parquet is missing")]
    whole = (folder / "epochs.parquet").read_bytes()
    (folder / "epochs.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"epochs\.parquet: cannot be read as Parquet"):
        reports.read(folder)
    pq.write_table(pa.table({"a": [1]}), folder / "epochs.parquet")
    with pytest.raises(InputError, match="not a table of a Winnow report"):
        reports.read(folder)
    pq.write_table(run.epochs.drop_columns(["gpus"]), folder / "epochs.parquet")
    with pytest.raises(InputError, match="has no column gpus"):
        read_table(folder / "epochs.parquet")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    for seed, stage in enumerate(("retrained", "searched")):
        make_run(folder / "runs" / f"run-{seed}", stage=stage, trials=12, seed=seed)
    reports.write_dataset(folder / "runs", folder / "all")
    return folder


@pytest.mark.parametrize("name", ["trials", "epochs", "winners", "environment"])
def test_four_readers_agree_on_the_partitioned_data_set(name, dataset):
    expected = reports.read_runs(dataset / "runs", name).to_pandas()
    files = f"{dataset}/all/{name}/**/*.parquet"
    partitioning = ds.partitioning(pa.schema([("run", pa.string())]), flavor="hive")
    read = {
        "pandas": pd.read_parquet(dataset / "all" / name),
        "polars": pl.read_parquet(files, hive_partitioning=True).to_pandas(),
        "duckdb": duckdb.sql(f"from read_parquet('{files}', hive_partitioning = true)").df(),
        "pyarrow": ds.dataset(dataset / "all" / name, partitioning=partitioning).to_table().to_pandas(),
    }
    assert set(expected["run"]) >= {"run-0"}
    for reader, frame in read.items():
        frame["run"] = frame["run"].astype(str)
        frame = _comparable(frame, list(expected.columns))
        pd.testing.assert_frame_equal(frame, _comparable(expected, list(expected.columns)), obj=reader)


def _comparable(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Readers differ in how a null is held and in the unit of a time, not in what there is."""
    found = frame[columns].copy()
    for column in found.columns:
        if isinstance(found[column].dtype, pd.DatetimeTZDtype):
            found[column] = found[column].dt.tz_convert("UTC").dt.as_unit("us").astype("int64", errors="ignore")
        elif found[column].dtype.kind in "iuf":
            found[column] = found[column].astype(float)
        found[column] = found[column].astype(object).where(found[column].notna(), None)
    return found.sort_values(["run"], kind="stable").reset_index(drop=True)


def test_a_run_is_replaced_in_the_data_set_and_reports_alone_count(dataset, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(VERSION_1, runs / "old" / "report")
    make_run(runs / "run-0", "searched", trials=6)
    shutil.copytree(dataset / "all", tmp_path / "all")
    reports.write_dataset(runs, tmp_path / "all")
    counts = duckdb.sql(
        f"select run, count(*) from '{tmp_path}/all/trials/**/*.parquet' group by 1 order by 1"
    ).fetchall()
    assert counts == [("old", 12), ("run-0", 6), ("run-1", 12)]
