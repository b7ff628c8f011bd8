"""Searches with a time budget, in simulated time: enough of it is kept to complete as many trials as winners are wanted."""

from __future__ import annotations

import heapq
import math

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, report
from winnow.search.settings import settings_for
from winnow.search.study.ledger import Ledger
from winnow.search.study.time_left import TimeLeft
from winnow.spaces import catalog
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=18", "start_from={}"])


def simulated(ledger: Ledger, budget: float, workers: int, epoch_seconds: float = 1.0) -> list[float]:
    """Search until the budget is spent; when each trial began."""
    begun: list[float] = []
    events: list[tuple[float, int, int, object]] = []  # (end of the epoch, order, epoch, assignment)
    order, now, idle = 0, 0.0, workers
    while True:
        ledger.goal.note_time_left(budget - now, workers)
        while idle and (assignment := ledger.ask()) is not None:
            begun += [now] if assignment.recorded == 0 else []
            order, idle = order + 1, idle - 1
            heapq.heappush(events, (now + epoch_seconds, order, assignment.recorded + 1, assignment))
        if not events or events[0][0] > budget:
            return begun
        now, _, epoch, assignment = heapq.heappop(events)
        ledger.goal.note_time_left(budget - now, workers)
        if ledger.record(assignment.number, report(assignment, epoch, wall_seconds=epoch_seconds)):
            order += 1
            heapq.heappush(events, (now + epoch_seconds, order, epoch + 1, assignment))
        else:
            idle += 1


@pytest.mark.parametrize(("sampler", "workers"), [("forecast", 2), ("random", 1), ("random", 4)])
def test_as_many_trials_complete_as_winners_are_wanted(tmp_path, space, sampler, workers):
    budget = 200 / workers
    settings = settings_for(space, sampler=sampler, trials=1000, time_budget=budget)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    begun = simulated(ledger, budget, workers)
    assert ledger.counts.get(TrialStatus.COMPLETED, 0) >= settings.retrain.top == 3
    assert len(begun) > 10
    ledger.close()


def test_a_budget_too_short_for_the_winners_is_searched_in_its_first_half(tmp_path, space):
    settings = settings_for(space, trials=1000, time_budget=40)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    begun = simulated(ledger, 40, workers=1)
    assert len(begun) > 5
    assert ledger.counts.get(TrialStatus.COMPLETED, 0) >= 1


def test_no_trial_begins_while_the_time_is_needed(tmp_path, space):
    settings = settings_for(space, trials=1000, time_budget=100)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    for trial in [ledger.ask() for _ in range(6)]:
        ledger.record(trial.number, report(trial, 1, wall_seconds=1.0))
        assert not ledger.record(trial.number, report(trial, 2, wall_seconds=1.0))
    ledger.goal.note_time_left(20, 1)
    assert [ledger.ask().recorded for _ in range(3)] == [2, 2, 2]
    assert ledger.num_asked == 6


def test_a_trial_without_which_winners_are_missing_is_not_stopped(tmp_path, space):
    """Successive halving would stop the worst of three; with three winners wanted and no time for others, none is stopped."""
    settings = settings_for(space, sampler="random", trials=1000, time_budget=100)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    trials = [ledger.ask() for _ in range(3)]
    for epoch in range(1, 19):
        going_on = [
            ledger.record(t.number, report(t, epoch, value=0.9 - 0.1 * t.number, wall_seconds=1.0)) for t in trials
        ]
        ledger.goal.note_time_left(20 - epoch, 3)
        assert going_on == [epoch < 18] * 3
    assert ledger.counts == {TrialStatus.COMPLETED: 3}


@pytest.mark.parametrize("trials", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("sampler", ["random", "forecast"])
def test_a_search_near_its_last_trial_completes_as_many_as_winners_are_wanted(tmp_path, space, sampler, trials):
    """Without a time budget: the last trials are not stopped if too few others have completed. The others are."""
    for seed in range(5):
        settings = settings_for(space, sampler=sampler, trials=trials, seed=seed)
        ledger = Ledger(make_folder(tmp_path / str(seed), space, settings), space, settings, SHAPE)
        simulated(ledger, budget=math.inf, workers=2)
        assert ledger.counts.get(TrialStatus.COMPLETED, 0) >= min(trials, 3), seed
        ledger.close()


def test_trials_are_stopped_as_long_as_others_may_complete(tmp_path, space):
    settings = settings_for(space, sampler="random", trials=6, top=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    simulated(ledger, budget=math.inf, workers=1)
    assert ledger.counts[TrialStatus.STOPPED] > 0


def test_a_diverged_trial_is_not_continued_for_the_winners(tmp_path, space):
    settings = settings_for(space, sampler="random", trials=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    trial = ledger.ask()
    assert not ledger.record(trial.number, report(trial, 1, value=math.nan, diverged=True))
    assert ledger.counts == {TrialStatus.DIVERGED: 1}


def test_time_is_needed_once_the_nearest_trials_just_fit():
    time = TimeLeft(1000)
    time.num_workers = 2
    time.seconds = 40
    assert not time.is_needed({}, 3, max_epochs=18)  # nothing is known
    time.note_epoch(0, 2.0)
    assert not time.is_needed({0: 4, 1: 4, 2: 4}, 3, max_epochs=18)
    time.seconds = 16.5  # 1.2 * 3 * 4 epochs / 2 workers, and one epoch
    assert not time.is_needed({0: 4, 1: 4, 2: 4}, 3, max_epochs=18)
    time.seconds = 16.4
    assert time.is_needed({0: 4, 1: 4, 2: 4}, 3, max_epochs=18)
    assert time.in_time({0, 1}, {0: 8, 1: 9}) == {0}
