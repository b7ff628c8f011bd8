"""Importance under early stopping: of the end, not of the first epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.search_quality.importance import CASES, simulate
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.figures import cost
from winnow.reports.figures import parameters as figures
from winnow.reports.reading.journal import State
from winnow.reports.reading.run import read_records
from winnow.reports.statuses import value_at_end
from winnow.reports.tables import end_values as end_values_module
from winnow.reports.tables import importance
from winnow.reports.tables.end_values import end_values, without_bad_outliers


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_shares_are_those_of_the_final_values(case: str, seed: int) -> None:
    result = simulate(case, seed, ("last values", "reported"))
    assert result.error("reported") < 0.10
    if case.startswith("crossing"):
        assert result.error("last values") > 0.3


def test_the_known_search_whose_shares_are_wrong() -> None:
    """The one of 72 that misses the goal: its last values rank the trials at the next rung as well as the estimate (decision 0043)."""
    result = simulate("parallel, 27 epochs", 15, ("last values", "always estimated", "reported"))
    assert result.shares["reported"] == result.shares["last values"]
    assert result.error("reported") == pytest.approx(0.325, abs=0.02)
    assert result.error("always estimated") < 0.02


def test_bad_outliers_count_as_the_limit_and_nothing_else_changes() -> None:
    values = np.linspace(0.5, 0.9, 21)
    for sign, maximize in ((1.0, True), (-1.0, False)):
        assert without_bad_outliers(sign * values, maximize).tolist() == (sign * values).tolist()
        cut = sign * without_bad_outliers(sign * np.array([*values, -1e9, 5.0]), maximize)
        assert cut[:21].tolist() == values.tolist()
        assert 0.1 < cut[21] < 0.5
        assert cut[22] == 5.0  # a good one is no fault
    mostly_equal = np.array([1.0] * 30 + [0.5, 0.6, 0.7])
    assert without_bad_outliers(mostly_equal, maximize=True).tolist() == mostly_equal.tolist()


def test_last_values_count_where_rungs_agree(tmp_path) -> None:
    run = reports.read(make_run(tmp_path / "run"))
    assert {row["values"] for row in run.rows("importance")} == {"last"}
    assert "counts with its last value" in figures.importance(run)[0].caption


def test_figures_show_the_estimated_end_where_rungs_mislead(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(end_values_module, "_gain", lambda *_: 1.0)
    run = reports.read(make_run(tmp_path / "run", "searched"))
    rows = figures.scored_trials(run)
    assert {row["values"] for row in run.rows("importance")} == {"estimated end"}
    assert {row["status"] for row in rows} > {"completed"}
    assert all((row["estimated_end"] is None) == (row["status"] == "completed") for row in rows)

    info = figures._slice_info(run, "model.dropout")
    by_trial = {row["trial"]: row for row in rows}
    for trial, y in zip(info.trials, info.y, strict=True):
        row = by_trial[trial]
        assert y == (row["objective"] if row["status"] == "completed" else row["estimated_end"])
    captions = [figures.parallel_coordinates(run)[0].caption, *(figure.caption for figure in cost.cost(run))]
    assert len(captions) == 3
    assert all("estimated value after the full training" in caption for caption in captions)
    info = cost._cost_info(run, lambda row: row["num_parameters"])
    assert info.objective == [value_at_end(by_trial[trial]) for trial in info.trials]


@pytest.mark.parametrize(("objective", "most"), [("validation_accuracy", 1.0), ("validation_loss", 5.0)])
def test_estimates_stay_within_what_the_objective_can_be(tmp_path, monkeypatch, objective: str, most: float) -> None:
    wild = {number: 5.0 if number % 2 else -5.0 for number in range(24)}
    monkeypatch.setattr(importance, "estimated_ends", lambda *_: wild)
    run = reports.read(make_run(tmp_path / "run", "searched", objective=objective))
    assert {row["estimated_end"] for row in run.rows("trials")} - {None} == {0.0, most}


def test_a_training_that_ended_early_counts_at_the_later_rungs(tmp_path, monkeypatch) -> None:
    run = read_records(make_run(tmp_path / "run", "searched"))
    early = next(trial for trial in run.study_trials if trial.state == State.COMPLETE)
    early.intermediate_values = {1: 0.3, 2: 0.5}
    seen: list[Any] = []
    monkeypatch.setattr(
        importance, "estimated_ends", lambda _trials, observed, rungs, *_: seen.extend([observed, rungs])
    )
    importance._ends_of_trials(run)
    observed, rungs = seen
    assert observed[early.number] == {rung: 0.3 if rung == 1 else 0.5 for rung in rungs}
    assert max(observed[early.number]) == run.settings["max_epochs"] > 2
    stopped = next(trial for trial in run.study_trials if trial.state == State.PRUNED)
    assert max(observed[stopped.number]) <= max(stopped.intermediate_values)


def test_too_little_to_estimate_from() -> None:
    columns = np.linspace(0, 1, 9)[:, None]
    assert end_values(columns, [{1: 0.5}] * 9, [1, 3], maximize=True) is None  # all values equal
    assert end_values(columns, [{1: i / 9} for i in range(9)], [1, 3], maximize=True) is None  # no trial went on
    assert end_values(columns, [{3: i / 9} for i in range(9)], [3], maximize=True) is None  # no rung before the end


def test_an_axis_is_logarithmic_only_if_every_value_can_be_drawn(tmp_path) -> None:
    """A branch that fixes a parameter, or an earlier space, may have given it the value 0, which has no logarithm."""
    run = reports.read(make_run(tmp_path / "run", "searched"))
    assert figures._is_log(run, "optimizer.lr", [0.1, None, 0.01])
    assert not figures._is_log(run, "optimizer.lr", [0.1, 0.0])
    assert not figures._is_log(run, "model.dropout", [0.1])
    rows = [{"optimizer.lr": value} for value in (0.1, 0.0, None)]
    assert figures._axis(run, "optimizer.lr", rows).positions == [0.1, 0.0, None]
