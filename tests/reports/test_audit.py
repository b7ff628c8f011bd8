"""What the report says of an audit, held against figures counted by hand, and against a real search."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from benchmarks.search_quality.kept_weights import drive
from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.run_data import RunData
from winnow.reports.text.audit import audit_sentence
from winnow.search.settings import settings_for
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.spaces import catalog


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunData:
    """Completed: 0.9, 0.8, 0.86. Stopped at epoch 1 and trained to the end by the audit: to 0.88, 0.95, 0.2, and one that diverged."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=7, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path_factory.mktemp("audit"), space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    plans = [(0.5, 0.9, True), (0.45, 0.8, True), (0.48, 0.86, True)]
    plans += [(0.40, 0.88, False), (0.3, 0.95, False), (0.2, 0.2, False), (0.1, None, False)]
    assignments = [ledger.ask() for _ in plans]
    # What is stopped is not the matter here, so the verdicts are given.
    ledger.scheduler.judge = lambda trial, epoch, value: plans[trial][2]
    for (start, end, _), assignment in zip(plans, assignments, strict=True):
        assert assignment is not None
        for epoch in range(1, 10):
            value = start if epoch == 1 else end
            going_on = ledger.record(assignment.number, report(assignment, epoch, value, diverged=value is None))
            if not going_on:
                break
    ledger.close()
    return reports.read(folder.path)


def test_the_table_by_hand(run: RunData) -> None:
    first, second, total = run.rows("audit")
    assert (first["epoch"], second["epoch"], total["epoch"]) == (1, 3, None)
    expected = {"num_stopped": 4, "num_audited": 4, "num_wrong": 2, "num_missed_best": 1, "wrong_rate": 0.5}
    for row in (first, total):
        assert {key: row[key] for key in expected} == expected
        assert (row["wrong_low"], row["wrong_high"]) == pytest.approx(
            (0.0676, 0.9324), abs=1e-4
        )  # Clopper-Pearson, 2 of 4
    assert (second["num_stopped"], second["wrong_rate"], second["wrong_low"]) == (0, None, None)
    # At epoch 1: 0.5 0.48 0.45 0.40 0.3 0.2; in the end: 0.9 0.86 0.8 0.88 0.95 0.2: ranks 6 5 4 3 2 1 and 5 3 2 4 6 1.
    assert first["num_sampled"] == first["num_finished"] == 6
    assert first["spearman_sampled"] == pytest.approx(1 - 6 * (1 + 4 + 4 + 1 + 16 + 0) / 210)
    assert first["kendall_sampled"] == pytest.approx((9 - 6) / 15)
    assert second["num_sampled"] == 3  # the trials stopped before never were judged there
    assert "trained 4 of 4 stopped trials to completion" in (text := audit_sentence(run))
    assert "2 of these 4 stops were wrong" in text
    assert "1 missed the best" in text


def test_the_audit_changes_no_other_figure(run: RunData) -> None:
    trials = {row["trial"]: row for row in run.trials.to_pylist()}
    assert [trials[t]["num_epochs"] for t in range(7)] == [9, 9, 9, 1, 1, 1, 1]
    assert [trials[t]["audit_objective"] for t in range(7)] == [None, None, None, 0.88, 0.95, 0.2, None]
    assert trials[4]["objective"] == 0.3
    assert run.table("rungs").to_pylist()[0]["num_stopped"] == 4
    assert sum(row["epochs_spent"] for row in run.table("rungs").to_pylist()) == 3 * 9 + 4
    phases = [row["phase"] for row in run.epochs.to_pylist()]
    assert phases.count("audit") == 3 * 8 + 1
    assert phases == sorted(phases, key=["search", "audit"].index)
    assert {row["decision"] for row in run.epochs.to_pylist() if row["phase"] == "audit"} == {None}


def test_the_page_shows_it(run: RunData) -> None:
    page = reports.write(run.path).read_text()
    assert "2 of 4 (7 to 93 %)" in page
    assert pq.read_table(run.path / "report" / "audit.parquet").num_rows == 3


def test_the_values_at_a_rung_are_those_that_it_judged(tmp_path: Path) -> None:
    """They are of the weights kept until then. The epoch's own values, which no rung saw, are in another order here."""
    space = catalog.load("digits", ["epochs=9", "weights=lowest_validation_loss"])
    settings = settings_for(
        space, trials=5, audit=1.0, grace_epochs=1, sampler="random", objective="validation_loss", top=1
    )
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    ledger.scheduler.judge = lambda *_: True

    def loss(assignment: Assignment, epoch: int) -> float:
        number = assignment.number
        if number < 2:  # best after its first epoch
            return 0.5 + 0.2 * number if epoch == 1 else 2.0 - 0.2 * number
        return 0.6 + 0.2 * number - 0.1 * (epoch == 9)

    drive(ledger, loss)
    at_rung = [trial.intermediate_values[3] for trial in study_of(folder).trials]
    assert at_rung == pytest.approx([0.5, 0.7, 1.0, 1.2, 1.4])
    row = reports.read(folder.path).rows("audit")[1]
    assert (row["epoch"], row["num_finished"], row["num_sampled"]) == (3, 5, 5)
    # In the end 0.5 0.7 0.9 1.1 1.3. The own values after epoch 3 are 2.0 1.8 1.0 1.2 1.4, whose rank correlation with them is -0.6.
    assert row["spearman_finished"] == row["spearman_sampled"] == pytest.approx(1.0)
    assert row["kendall_finished"] == row["kendall_sampled"] == pytest.approx(1.0)


def test_without_an_audit_the_page_says_how_to_have_one(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "plain")
    page = reports.write(folder).read_text()
    assert "--audit 0.1" in page
    assert 'href="#audit"' not in page
    assert pq.read_table(folder / "report" / "audit.parquet").num_rows == 0
    assert json.loads(json.dumps(reports.read(folder).settings)).get("audit") is None
