"""A search whose Ray has nothing free says what it waits for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from winnow.search.ray_backend import waiting
from winnow.search.ray_backend.waiting import PATIENCE, WaitingNotice

states = ["PENDING"]  # of the placement group of the next trial


@pytest.fixture
def cpus(monkeypatch) -> dict[str, float]:
    free, states[0] = {"CPU": 0.0}, "PENDING"
    monkeypatch.setattr(waiting.ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(waiting.ray, "available_resources", lambda: free)
    monkeypatch.setattr(waiting, "placement_group_table", lambda: {"a": {"state": states[0]}})
    return free


def test_what_is_lacking_is_said_once(cpus):
    seconds, lines = [0.0], []
    notice = WaitingNotice(lines.append, {"cpu": 1.0, "gpu": 0.0}, lambda: seconds[0])
    for _ in range(100):
        seconds[0] += 1
        notice.on_step_end(0, [])
        assert bool(lines) == (seconds[0] > PATIENCE + 1)
    assert lines == ["waiting: Ray has 2 CPUs, 0 are free, and a trial needs 1"]
    trial: Any = SimpleNamespace(trial_id="a")
    notice.on_trial_start(0, [], trial)
    seconds[0] += 100
    notice.on_step_end(0, [])
    notice.on_trial_complete(0, [], trial)
    for _ in range(20):
        seconds[0] += 1
        notice.on_step_end(0, [])
    assert len(lines) == 2


def test_a_worker_that_takes_long_to_start_is_no_lack(cpus):
    states[0] = "CREATED"
    seconds, lines = [0.0], []
    notice = WaitingNotice(lines.append, {"cpu": 1.0}, lambda: seconds[0])
    for _ in range(100):
        seconds[0] += 1
        notice.on_step_end(0, [])
    assert lines == []
