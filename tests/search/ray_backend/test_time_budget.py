"""What the ledger hears of the time budget."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from winnow.search.ray_backend.tune import StopController


def test_the_ledger_hears_every_second_how_much_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[float, int]] = []
    ledger: Any = SimpleNamespace(
        settings=SimpleNamespace(time_budget_seconds=100.0),
        winding_down=False,
        goal=SimpleNamespace(note_time_left=lambda seconds, workers: heard.append((seconds, workers))),
        wind_down=lambda: None,
        settle=lambda: None,
    )
    hangs: Any = SimpleNamespace(check=lambda: None)
    clock = [0.0]
    monkeypatch.setattr("winnow.search.ray_backend.tune.time.monotonic", lambda: clock[0])
    stopping = StopController(ledger, print, hangs, concurrent=4)
    for clock[0] in (0.0, 0.5, 10.0, 10.9, 11.0, 101.0):
        stopping.stop_all()
    assert heard == [(100.0, 4), (90.0, 4), (89.0, 4), (-1.0, 4)]
    assert stopping.out_of_time
