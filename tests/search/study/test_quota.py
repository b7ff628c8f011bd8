"""What waits is bounded: the checkpoints of paused trials, and their number."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import settings_for
from winnow.search.study.checkpoint_quota import Quota
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9"])


def test_no_more_wait_than_the_forecast_can_go_through(tmp_path, space, monkeypatch):
    """And a search that pauses still ends with as many completed trials as winners are wanted."""
    monkeypatch.setattr("winnow.search.study.checkpoint_quota.MOST_PAUSED", 4)
    settings = settings_for(space, trials=14, sampler="forecast", top=3)
    folder = make_folder(tmp_path, space, settings)
    ledger, most = Ledger(folder, space, settings, SHAPE), 0
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, 10):
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
        most = max(most, len(ledger._paused.numbers))
    assert most == 4
    assert ledger.finished
    statuses = Counter(trial.user_attrs["status"] for trial in study_of(folder).trials)
    assert statuses["completed"] >= 3
    assert statuses.total() == 14


def test_the_quota_ends_the_worst_paused_trials(tmp_path, space):
    """Every paused trial has a checkpoint of 1 MB and 3.5 MB are allowed: never more than three wait."""
    settings = settings_for(space, trials=12, sampler="forecast", checkpoint_quota=0.0035)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    most, ended_by_quota = 0, []
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, 10):
            Path(folder.checkpoint(assignment.number)).write_bytes(bytes(1_000_000))
            before = set(ledger._paused.numbers)
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
        values = ledger.scheduler.shares_better(before | {assignment.number})
        gone = set(values) - ledger._paused.numbers - {assignment.number}
        ended_by_quota += gone
        assert all(values[lost] >= values[kept] for lost in gone for kept in ledger._paused.numbers)
        most = max(most, len(list(folder.checkpoints.iterdir())))
    assert most == 3
    assert ended_by_quota
    trials = study_of(folder).trials
    assert {trials[number].user_attrs["status"] for number in ended_by_quota} == {"stopped"}
    assert all(trials[number].intermediate_values for number in ended_by_quota)
    assert len(trials) == 12
    assert not list(folder.checkpoints.iterdir())


def test_a_checkpoint_is_measured_once(tmp_path, space, monkeypatch):
    """In an object store that is a request each."""
    measured = []
    monkeypatch.setattr("winnow.search.storage.remote.size", lambda path: measured.append(path) or 1_000_000)
    settings = settings_for(space, sampler="forecast")
    quota, rule = Quota(make_folder(tmp_path, space, settings), gigabytes=0.0025), make_scheduler(settings, pauses=True)
    for trial, value in enumerate((0.5, 0.9, 0.7)):
        rule.record(trial, rule.rungs[0], value)
    assert quota.beyond({0, 1}, rule) == []
    assert quota.beyond({0, 1, 2}, rule) == [0]
    assert len(measured) == 3
