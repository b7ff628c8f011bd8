"""Successive halving: rungs as published, the stop rule, and that it is a function of the recorded values alone."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import default_grace_epochs, rung_epochs


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "rungs"),
    [
        (1, 3, 27, [1, 3, 9]),
        (1, 3, 28, [1, 3, 9, 27]),
        (1, 4, 100, [1, 4, 16, 64]),
        (3, 3, 50, [3, 9, 27]),
        (1, 1.5, 8, [1, 2, 3, 5]),
        (5, 3, 5, []),
        (1, 3, 1, []),
    ],
)
def test_rungs(grace, factor, epochs, rungs):
    assert rung_epochs(grace, factor, epochs) == rungs


def test_grace_is_a_sixteenth_of_the_epochs():
    assert [default_grace_epochs(epochs) for epochs in (1, 16, 50, 100)] == [1, 1, 3, 6]


def test_best_third_goes_on():
    asha = Asha(1, 3, 9, "maximize")
    verdicts = [asha.judge(trial, 1, value) for trial, value in enumerate([0.5, 0.4, 0.6, 0.55, 0.58, 0.59, 0.7])]
    #                   first: alone; 0.4 < 0.5; best; worse than 0.6 (1 of 4); 1 of 5; second of 6 (2 of 6 go on); best
    assert verdicts == [True, False, True, False, False, True, True]


def test_between_rungs_everything_goes_on():
    asha = Asha(1, 3, 9, "maximize")
    asha.judge(0, 1, 0.9)
    assert asha.judge(1, 2, 0.1)
    assert asha.table() == {1: {0: 0.9}, 3: {}}


def test_minimize():
    asha = Asha(1, 3, 9, "minimize")
    assert asha.judge(0, 1, 1.0)
    assert not asha.judge(1, 1, 2.0)
    assert asha.judge(2, 1, 0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("epoch", [1, 2])
def test_what_is_not_finite_is_stopped_and_leaves_no_trace(value, epoch):
    asha = Asha(1, 3, 9, "maximize")
    assert not asha.judge(0, epoch, value)
    assert asha.table() == {1: {}, 3: {}}


def test_ties_go_on_together():
    asha = Asha(1, 3, 9, "maximize")
    assert all(asha.judge(trial, 1, 0.5) for trial in range(5))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.sampled_from([2.0, 3.0, 4.0]))
def test_rungs_rebuilt_from_records_judge_alike(values, factor):
    live, rebuilt = Asha(1, factor, 9, "maximize"), Asha(1, factor, 9, "maximize")
    for trial, value in enumerate(values[:-1]):
        live.judge(trial, 1, value)
    for trial, value in reversed(list(enumerate(values[:-1]))):
        rebuilt.record(trial, 1, value)
    assert live.judge(len(values), 1, values[-1]) == rebuilt.judge(len(values), 1, values[-1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60, unique=True), st.sampled_from([2.0, 3.0, 4.0]))
def test_the_best_so_far_is_never_stopped(values, factor):
    asha = Asha(1, factor, 9, "maximize")
    for trial, value in enumerate(values):
        going_on = asha.judge(trial, 1, value)
        if value == max(values[: trial + 1]):
            assert going_on
