"""The tables of a run: values, schemas, readers, and runs that were cut short."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from docs.generate.reports import DOCS_FILE, markdown
from tests.helpers.make_run import NUM_TEST, RUNGS, START, Stage, make_run
from winnow import reports
from winnow.reports import rows as plain
from winnow.reports.reading.run import read_records
from winnow.reports.schemas import KINDS, RUN_VERSION, SCHEMA_VERSION, TABLES, arrow_schema
from winnow.reports.tables.from_folder import FromFolder
from winnow.reports.tables.parquet import write_tables
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config
from winnow.spaces.trial_status import FAILURES

STAGES: tuple[Stage, ...] = ("empty", "first_epoch", "searching", "searched", "retrained")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "whole")
    answers = {"index": [4, 2], "true": [0, 1], "predicted": [0, 2]}
    shares = {
        "confidence": [0.9, 0.5],
        "probability_true": [0.9, 0.3],
        "probabilities": [[0.9, 0.1, 0.0], [0.2, 0.3, 0.5]],
    }
    arrays = {name: np.array(values, np.float32) for name, values in shares.items()}
    np.savez(
        folder / "predictions" / "validation-trial-00000.npz", **{k: np.array(v) for k, v in answers.items()}, **arrays
    )
    write_tables(reports.read(folder), folder / "report")
    return folder


@pytest.fixture(scope="module")
def run(run_folder: Path) -> reports.RunData:
    return reports.read(run_folder)


@pytest.mark.parametrize(("table", "others"), [("retrains", {"completed"}), ("failures", set())])
def test_every_status_of_a_training_is_described(table: str, others: set[str]) -> None:
    (status,) = (column for column in TABLES[table].columns if column.name == "status")
    assert set(re.findall(r"\w+", status.meaning)) - {"or"} == {*FAILURES, *others}


def test_trials_hold_what_the_study_says(run: reports.RunData) -> None:
    rows = run.trials.to_pylist()
    assert [row["trial"] for row in rows] == list(range(24))
    counts = {status: sum(row["status"] == status for row in rows) for status in {row["status"] for row in rows}}
    assert counts == {"completed": 4, "stopped": 16, "diverged": 1, "out_of_memory": 1, "failed": 1, "skipped": 1}
    for row, trial in zip(rows, read_records(run.path).study_trials, strict=True):
        values = list(trial.intermediate_values.values())
        assert row["num_epochs"] == len(values)
        assert row["best_objective"] == (max(values) if values else None)
        assert row["config"] is None or json.loads(row["config"]) == trial.user_attrs["config"]
        if row["status"] in ("completed", "stopped"):
            assert row["objective"] == values[-1] == row["validation_accuracy"]
    assert [row["reason"] for row in rows if row["status"] == "skipped"] == ["duplicate of trial 3"]


def test_parameters_are_null_where_they_were_not_active(run: reports.RunData) -> None:
    active = 0
    for row, trial in zip(run.trials.to_pylist(), read_records(run.path).study_trials, strict=True):
        optimizer = trial.params["optimizer"]
        assert row["optimizer.name"] == optimizer
        assert row["optimizer.lr"] == trial.params[f"optimizer.{optimizer}.lr"]
        # The config of every adam has a weight_decay by default; a parameter it is in adamw alone.
        assert (row["optimizer.weight_decay"] is not None) == (optimizer == "adamw")
        assert (row["optimizer.momentum"] is not None) == (optimizer == "sgd")
        for stage in range(4):
            assert (row[f"model.stages.{stage}.filters"] is not None) == (stage < row["model.depth"])
            active += row[f"model.stages.{stage}.filters"] is not None
        assert row["model.head"] == trial.params["model.head"]
    assert active > 24


def test_first_line_of_a_repeated_epoch_counts(run: reports.RunData) -> None:
    rows = run.epochs.to_pylist()
    keys = [(row["phase"], row["trial"], row["seed"], row["epoch"]) for row in rows]
    assert len(set(keys)) == len(keys)
    assert all(row["train_loss"] is None or row["train_loss"] < 99 for row in rows)


def test_losses_that_are_not_finite_are_null(run: reports.RunData) -> None:
    for name in TABLES:
        table = run.table(name)
        for field in table.schema:
            if pa.types.is_floating(field.type):
                values = table.column(field.name).drop_null().to_pylist()
                assert all(map(math.isfinite, values)), (name, field.name)


def test_rungs_add_up(run: reports.RunData) -> None:
    rows = run.table("rungs").to_pylist()
    assert [row["epoch"] for row in rows] == [*RUNGS, 20]
    trials = run.trials.to_pylist()
    assert sum(row["epochs_spent"] for row in rows) == sum(row["num_epochs"] for row in trials)
    assert sum(row["num_stopped"] for row in rows) == sum(row["status"] == "stopped" for row in trials)
    assert math.isclose(sum(row["train_seconds"] for row in rows), sum(row["train_seconds"] for row in trials))
    for row in rows:
        reached = [
            t.intermediate_values[row["epoch"]]
            for t in read_records(run.path).study_trials
            if row["epoch"] in t.intermediate_values
        ]
        assert (row["num_reached"], row["best_objective"]) == (len(reached), max(reached))


def test_failures_name_the_training_and_the_error(run: reports.RunData) -> None:
    rows = run.table("failures").to_pylist()
    assert [(row["phase"], row["status"], row["epoch"]) for row in rows] == [
        ("search", "out_of_memory", 0),
        ("search", "diverged", 1),
        ("search", "failed", 1),
        ("retrain", "diverged", 2),
    ]
    assert rows[1]["error"] == "loss became nan in epoch 1"


def test_predictions_agree_with_their_files(run: reports.RunData) -> None:
    table = run.predictions
    assert table.num_rows == 11 * NUM_TEST  # 4 configs x 3 seeds, one of which diverged
    first = [row for row in table.to_pylist() if row["rank"] == 1 and row["seed"] == 101]
    accuracy = sum(row["correct"] for row in first) / NUM_TEST
    known = next(r["test_accuracy"] for r in run.table("retrains").to_pylist() if r["rank"] == 1 and r["seed"] == 101)
    assert abs(accuracy - known) <= 1 / NUM_TEST
    assert all(row["true_class"] == str(row["true"]) for row in first)


def test_every_column_of_the_environment_is_there(run: reports.RunData) -> None:
    facts = {(row["section"], row["key"]): row["value"] for row in run.table("environment").to_pylist()}
    assert facts["settings", "seed"] == "0"
    assert facts["data", "fingerprint"] == "0123456789abcdef"
    assert facts["run", "git_revision"] is None


@pytest.mark.parametrize("name", TABLES)
def test_all_readers_agree(run_folder: Path, name: str) -> None:
    duckdb, pandas, polars = pytest.importorskip("duckdb"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    path = run_folder / "report" / f"{name}.parquet"
    expected = pq.read_table(path).to_pylist()
    assert expected or name in ("audit", "front", "memory", "ensemble")  # this run has none
    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    by_pandas = pa.Table.from_pandas(frame, preserve_index=False).to_pylist()
    by_polars = polars.read_parquet(path).to_dicts()
    by_duckdb = duckdb.sql(f"SET TimeZone = 'UTC'; SELECT * FROM '{path}'").to_arrow_table().to_pylist()
    for rows in (by_pandas, by_polars, by_duckdb):
        assert len(rows) == len(expected)
        for row, other in zip(rows, expected, strict=True):
            assert list(row) == list(other)
            assert row == other


@pytest.mark.parametrize("stage", STAGES)
def test_the_schema_holds_at_every_stage(tmp_path: Path, stage: Stage) -> None:
    run = reports.read(make_run(tmp_path / stage, stage))
    write_tables(run, tmp_path / "report")
    for name, schema in TABLES.items():
        parameters = run.space.columns() if schema.parameters else {}
        found = pq.read_schema(tmp_path / "report" / f"{name}.parquet")
        assert found.equals(arrow_schema(name, parameters, {}), check_metadata=False)
        metadata = {key.decode(): value.decode() for key, value in found.metadata.items()}
        assert metadata["winnow.schema_version"] == str(SCHEMA_VERSION)
        assert (metadata["winnow.table"], metadata["winnow.run"]) == (name, stage)
        provenance = json.loads(metadata["winnow.provenance"])
        assert provenance["data"]["fingerprint"] == "0123456789abcdef"
        assert "space" not in provenance
        for column in schema.columns:
            if column.null is None:
                assert run.table(name).column(column.name).null_count == 0, (name, column.name)


def test_the_table_of_epochs_holds_the_rows_of_each_trial(run: reports.RunData) -> None:
    """Arrow makes the table, Python the rows of one trial: of numbers that are none, of what is missing, of times between two microseconds."""
    random_number = random.Random(0).random
    times = [START + 1000 * random_number() if k % 2 else START + k / 256 for k in range(800)]
    numbers = itertools.cycle([0.1, 1, math.nan, math.inf, -math.inf, None])
    lines = [
        {"phase": phase, "trial": trial, "seed": seed, "epoch": epoch, "time": times.pop(), "lr": next(numbers)}
        | ({} if epoch == 3 else {"node": "a", "rung": epoch, "unknown": 0})
        for phase, trial, seed, epoch in itertools.product(("retrain", "search"), range(9), (1, 0), range(20, 0, -1))
    ]
    lines += [{**line, "phase": "audit", "epoch": line["epoch"] + 20, "time": None} for line in lines[::7]]
    source = FromFolder(replace(read_records(run.path), epoch_lines=lines))
    made = replace(run, source=source)
    rows = plain.rows(made.epochs)
    for trial in range(9):
        of_trial = sorted(made.epochs_of_trial(trial), key=lambda row: row["seed"])
        assert [row for row in rows if (row["phase"], row["trial"]) == ("search", trial)] == of_trial
    places = [(("search", "audit", "retrain").index(r["phase"]), r["trial"], r["seed"], r["epoch"]) for r in rows]
    assert places == sorted(places)
    assert len(places) == len(lines)


def test_torn_last_lines_are_left_out_and_noted(tmp_path: Path) -> None:
    whole, torn = make_run(tmp_path / "run"), make_run(tmp_path / "torn" / "run", torn=True)
    expected, found = reports.read(whole), reports.read(torn)
    assert len(found.notes) == 3
    assert all("incomplete" in note for note in found.notes)
    for name in TABLES:
        assert found.table(name).equals(expected.table(name)), name
    before = (torn / "study.journal").read_bytes()
    reports.read(torn)
    assert (torn / "study.journal").read_bytes() == before
    assert sorted(path.name for path in torn.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_a_damaged_journal_is_read_up_to_the_damage(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", "searched")
    lines = (folder / "study.journal").read_bytes().splitlines(keepends=True)
    (folder / "study.journal").write_bytes(b"".join([*lines[:9], b'{"op_code": 7, "tri', *lines[9:]]))
    run = reports.read(folder)
    assert len(read_records(folder).study_trials) == 8
    assert run.notes == (f"study.journal is damaged at line 10: the {len(lines) - 10} lines after it were left out",)


def test_a_run_without_a_journal_is_noted(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run", "empty"))
    assert run.trials.num_rows == 0
    assert run.notes == ("study.journal is missing: there are no trials to report",)
    assert not (tmp_path / "run" / "study.journal").exists()


def test_a_missing_prediction_file_costs_only_its_rows(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    files = sorted((folder / "predictions").iterdir())
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:500])
    assert reports.read(folder).predictions.num_rows == 9 * NUM_TEST


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "this folder is not a run, since it contains no study.yaml"),
        ("{a: [", "cannot be read as YAML"),
        ("- 1", "must contain a mapping, but contains list"),
        ("name: x", "schema_version must be a whole number, but got None"),
        ("schema_version: 99", f"the run has schema_version 99, but this Winnow reads up to {RUN_VERSION}"),
        (
            "schema_version: 1\nsettings: {}",
            "damaged or cut short: space is missing; take it from a copy of the run",
        ),
    ],
)
def test_what_is_no_run_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        reports.read(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_an_unknown_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such run folder"):
        reports.read(tmp_path / "nowhere")


def test_docs_are_made_from_the_schemas() -> None:
    assert DOCS_FILE.read_text(encoding="utf-8") == markdown(), "run: python -m docs.generate.reports"


def test_examples_of_the_docs_run(run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [block.split("```")[0] for block in markdown().split("```python\n")[1:]]
    assert len(blocks) == 3
    shutil.copytree(run_folder, tmp_path / "runs" / "first")
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "docs/reports.md", "exec"), {})
    assert (tmp_path / "all-runs" / "trials" / "run=whole").is_dir()


def test_schemas_are_whole() -> None:
    for name, schema in TABLES.items():
        names = [column.name for column in schema.columns]
        assert len(set(names)) == len(names), name
        assert all(column.kind in KINDS and column.meaning for column in schema.columns), name
        assert [field.name for field in arrow_schema(name, {}, {})] == names
        if schema.parameters:
            # A parameter such as `epochs` is a column by that name, so none of ours may have it.
            assert not set(names) & set(Config.model_fields), name


def test_importing_reports_costs_nothing() -> None:
    code = "import sys; from winnow import reports; print(sorted({'optuna', 'numpy', 'rich', 'pyarrow', 'pydantic'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
