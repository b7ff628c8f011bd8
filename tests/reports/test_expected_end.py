"""Forecasts of where unfinished trainings end."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.html.page import page
from winnow.reports.schemas.search import EXPECTED_END
from winnow.reports.tables.expected_end import ExpectedEnds
from winnow.spaces.epoch_figures import curve_of

EPOCHS = 27


def learning_curves(num: int, rng: np.random.Generator, jump: float = 0.0) -> np.ndarray:
    """Power laws of unlike heights and speeds with noise, [num, EPOCHS]; they rise by `jump` in the last third, as under annealing."""
    end, speed, first = rng.uniform(0.5, 0.9, num), rng.uniform(0.3, 1.2, num), rng.uniform(0.1, 0.4, num)
    epochs = np.arange(1, EPOCHS + 1)
    curves = end[:, None] - first[:, None] * epochs ** -speed[:, None]
    return curves + jump * (epochs > EPOCHS * 2 / 3) + rng.normal(0, 0.005, curves.shape)


@pytest.mark.parametrize("jump", [0.0, 0.05])
def test_intervals_hold_the_end_in_most_cases(jump: float) -> None:
    rng = np.random.default_rng(0)
    curves = learning_curves(200, rng, jump)
    seen = [curve[: rng.choice([3, 9, EPOCHS], p=[0.5, 0.3, 0.2])].tolist() for curve in curves]
    ends = ExpectedEnds(seen, EPOCHS, "validation_accuracy", maximize=True)
    pairs = [(ends.of(short), curve[-1]) for short, curve in zip(seen, curves, strict=True)]
    held = [end.low <= truth <= end.high for end, truth in pairs if end is not None]
    assert len(held) == sum(len(short) < EPOCHS for short in seen)
    assert 0.8 <= np.mean(held) <= 0.99


def test_a_search_learns_what_its_curves_gain_late() -> None:
    rng = np.random.default_rng(1)
    curves = learning_curves(60, rng, jump=0.1).tolist()
    short = curves[0][:18]
    alone = ExpectedEnds([short], EPOCHS, "validation_accuracy", maximize=True).of(short)
    informed = ExpectedEnds([short, *curves[1:]], EPOCHS, "validation_accuracy", maximize=True).of(short)
    assert alone is not None
    assert informed is not None
    assert alone.high < curves[0][-1]
    assert informed.low <= curves[0][-1] <= informed.high


def test_a_loss_is_the_mirror_image() -> None:
    curves = learning_curves(30, np.random.default_rng(2))
    short = curves[0][:9]
    high = ExpectedEnds(curves.tolist(), EPOCHS, "validation_own_metric", maximize=True).of(short.tolist())
    low = ExpectedEnds((-curves).tolist(), EPOCHS, "validation_own_metric", maximize=False).of((-short).tolist())
    assert high is not None
    assert low is not None
    assert low == pytest.approx((-high.middle, -high.high, -high.low))


@pytest.mark.parametrize(
    ("objective", "maximize", "curve", "least", "most"),
    [
        ("validation_accuracy", True, [0.2, 0.6, 0.95], 0.0, 1.0),
        ("validation_loss", False, [9.0, 1.0, 0.1], 0.0, np.inf),
        ("validation_own_metric", True, [-9.0, -1.0, -0.1], -np.inf, np.inf),
    ],
)
def test_no_value_is_forecast_that_cannot_be(
    objective: str, maximize: bool, curve: list[float], least: float, most: float
) -> None:
    end = ExpectedEnds([curve], EPOCHS, objective, maximize).of(curve)
    assert end is not None
    assert least <= end.low < end.high <= most
    assert end.low <= end.middle <= end.high
    reached = end.high == 1.0 if objective == "validation_accuracy" else end.low == 0.0
    assert reached == (objective != "validation_own_metric")


@pytest.mark.parametrize("curve", [[], [0.5], [0.5] * EPOCHS, [0.5, np.nan, 0.6], [0.5, 0.6, np.inf]])
def test_nothing_is_said_of_others(curve: list[float]) -> None:
    assert ExpectedEnds([curve, [0.5, 0.6, 0.7]], EPOCHS, "validation_accuracy", maximize=True).of(curve) is None


def test_a_curve_ends_where_an_epoch_is_missing() -> None:
    assert curve_of({1: 0.5, 2: 0.6, 4: 0.7}) == [0.5, 0.6]
    assert curve_of({2: 0.6}) == []


def test_the_table_has_them_for_running_and_stopped_trials(tmp_path) -> None:
    run = reports.read(make_run(tmp_path / "run", "searched"))
    rows = run.rows("trials")
    for row in rows:
        ends = [row[name] for name in EXPECTED_END]
        if row["status"] in ("running", "stopped") and row["num_epochs"] >= 2:
            middle, low, high = ends
            assert low < middle < high
        else:
            assert ends == [None] * 3
    assert any(row["expected_end"] is not None for row in rows)


def test_the_page_lists_the_trials_that_have_not_ended(tmp_path) -> None:
    run = reports.read(make_run(tmp_path / "run", "searching"))
    running = [row for row in run.rows("trials") if row["status"] == "running" and row["expected_end"] is not None]
    html = page(run)
    assert running
    assert "Trials that have not ended" in html
    first = max(running, key=lambda row: row["expected_end"])
    assert f"{first['expected_end_low']:.2%}".removesuffix("%") in html
    assert "Trials that have not ended" not in page(reports.read(make_run(tmp_path / "other", "searched")))
