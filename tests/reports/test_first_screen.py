"""What the first screen says in cases that are not the ordinary one: one seed, another objective, an audit, a front of one trial."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.html import page_text
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.html.page import page
from winnow.reports.tables.parquet import write_tables
from winnow.reports.tables.query import query
from winnow.reports.text import wording
from winnow.reports.text.queries import queries
from winnow.reports.text.summary import _front_sentence, sentences
from winnow.reports.text.winner_words import yardsticks

pytest.importorskip("duckdb", reason="the extra `query` is not installed")


def with_seeds(folder: Path, num: int) -> reports.RunData:
    """A run of which only the first seeds are retrained, as with `--seeds`."""
    file = make_run(folder) / "retrain.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    first = sorted({line["seed"] for line in lines})[:num]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines if line["seed"] in first))
    return reports.read(folder)


def test_one_seed_has_no_interval_and_nothing_speaks_of_one(tmp_path: Path) -> None:
    run = with_seeds(tmp_path / "run", 1)
    assert wording.intervals_over(run, run.rows("winners")) == ""
    text = page_text(page(run))
    num_test = run.study["data"]["num_test"]
    assert (
        f"correct of {num_test} test images of 10 classes: the test accuracy of the winner, mean of 1 seed (one seed, so no interval)"
        in text
    )
    assert "95 % interval" not in text.partition("Glossary")[0].partition("Parameters")[0]


def test_intervals_of_several_seeds_are_named(tmp_path: Path) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    assert wording.intervals_over(run, run.rows("winners")).startswith("over seeds")
    assert "In parentheses: 95 % intervals over seeds" in page_text(page(run))


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("validation_accuracy", 0.1),
        ("validation_balanced_accuracy", 0.1),
        ("validation_top5_accuracy", 0.5),
        ("validation_auroc", 0.5),
        ("validation_macro_f1", None),
        ("validation_loss", None),
    ],
)
def test_guessing_at_random_is_that_of_the_metric(tmp_path: Path, objective: str, expected: float | None) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    write_tables(run, run.path / "report")
    run.study["settings"]["objective"] = objective
    shown = dict(yardsticks(run)).get("guessing at random")
    assert shown == (None if expected is None else wording.percent(expected))
    (row,) = query(run, queries(run)["yardsticks"]).to_pylist()
    assert row["guessing"] == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("named", ["my_metrics:cost", {"name": "my_metrics:cost", "of_misses": 3.0}])
def test_a_custom_metric_is_named(tmp_path: Path, named: Any) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    assert "my_metrics" not in " ".join(sentences(run))
    run.study["space"]["own_metric"] = named
    run.study["settings"]["objective"] = "validation_own_metric"
    assert "is the value of `my_metrics:cost`; higher is better." in " ".join(sentences(run))


def test_the_cost_of_an_audit_is_told(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    file = folder / "epochs.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    before = len([line for line in lines if line["phase"] == "audit"])
    extra = [{**lines[-1], "phase": "audit", "trial": 1, "epoch": epoch, "wall_seconds": 2.0} for epoch in (90, 91, 92)]
    file.write_text("".join(json.dumps(line) + "\n" for line in (*lines, *extra)))
    run = reports.read(folder)
    total = math.fsum(line["wall_seconds"] for line in (*lines, *extra) if line["phase"] == "audit")
    expected = (
        f"Its audit trained {before + 3} epochs more, {wording.duration(total)} of training, within the same wall time."
    )
    assert expected in sentences(run)
    write_tables(run, run.path / "report")
    (row,) = query(run, queries(run)["cost"]).to_pylist()
    assert (row["audit_epochs"], row["audit_seconds"]) == (before + 3, pytest.approx(total))


def test_the_front_of_one_trial_has_no_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    run.study["settings"]["objectives"] = ["validation_accuracy", {"minimize": "latency_ms"}]
    row = {"trial": 4, "objective": 0.9, "latency_ms": 0.42}
    for rows, text in (
        ([row], "has 1 trial; it is trial 4 with 90.00\u00a0% (0.42 ms of latency)."),
        (
            [row, row | {"trial": 5, "objective": 0.8, "latency_ms": 0.2}],
            "its ends are trial 4 with 90.00\u00a0% (0.42 ms of latency) and trial 5",
        ),
    ):
        monkeypatch.setattr(type(run), "rows", lambda self, name, rows=rows: rows)
        assert text in _front_sentence(run)


@pytest.mark.parametrize(
    ("precision", "tf32", "said"), [("float32", True, True), ("float32", False, False), ("auto", True, False)]
)
def test_float32_that_is_tensorfloat32_is_said(tmp_path: Path, precision: str, tf32: bool, said: bool) -> None:
    file = make_run(tmp_path / "run") / "retrain.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["config"]["precision"], line["tf32"] = precision, tf32
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert ("TensorFloat-32" in " ".join(sentences(reports.read(file.parent)))) is said
