"""Why a search ended is recorded after all that led to the end."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from winnow.search.operations import searching
from winnow.search.operations.execution import Execution
from winnow.search.ray_backend.shared_data import SharedData
from winnow.search.ray_backend.tune import Outcome
from winnow.search.resources.plan import DeviceOptions, ResourcePlan
from winnow.search.settings import settings_for
from winnow.search.study import trial_book
from winnow.search.study.ledger import Ledger
from winnow.search.views.view import View
from winnow.spaces import catalog


def test_the_end_of_the_last_trial_is_on_the_disk_before_that_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that is killed in between would leave a trial open in a search that has ended, so nothing would continue it."""
    space = catalog.load("digits", ["epochs=2"])
    settings = settings_for(space, sampler="random", trials=6)
    folder = make_folder(tmp_path, space, settings)
    statuses: list[Any] = []

    def run_search(ledger: Ledger, *_: Any) -> Outcome:
        ledger.grouped = True
        trial = ledger.ask()
        assert trial is not None
        for epoch in (1, 2):
            ledger.record(trial.number, report(trial, epoch))
        return Outcome(interrupted=False, out_of_time=True, bug=None, wall_seconds=1.0)

    monkeypatch.setattr(trial_book, "GROUP_SECONDS", 1e9)
    monkeypatch.setattr("winnow.search.ray_backend.tune.run_search", run_search)
    monkeypatch.setattr(
        searching,
        "write_end",
        lambda *_: statuses.extend(trial.user_attrs.get("status") for trial in study_of(folder).trials),
    )
    plan = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    execution = Execution(View(Console(file=io.StringIO())), DeviceOptions())
    searching._run(folder, space, settings, SharedData(None), SHAPE, plan, execution)
    assert statuses == ["completed"]


@pytest.mark.parametrize(
    "during", ["winnow.search.study.ledger.Ledger", "winnow.search.operations.searching._fetch_answers"]
)
def test_an_interruption_outside_of_the_trials_prints_the_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """Reading a long study, and copying predictions from a storage, take time."""
    space = catalog.load("digits", ["epochs=2"])
    settings = settings_for(space, sampler="random", trials=6, keep_predictions=True)
    folder = make_folder(tmp_path, space, settings)

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    done = Outcome(interrupted=False, out_of_time=False, bug=None, wall_seconds=1.0)
    monkeypatch.setattr("winnow.search.ray_backend.tune.run_search", lambda *_: done)
    monkeypatch.setattr(during, interrupt)
    plan = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    execution = Execution(View(Console(file=io.StringIO())), DeviceOptions())
    with pytest.raises(
        KeyboardInterrupt, match=f"nothing is lost; continue with: {re.escape(folder.command('resume'))}$"
    ):
        searching._run(folder, space, settings, SharedData(None), SHAPE, plan, execution)
