"""`search.checkpoint_seconds`: what is trained again after the last checkpoint is the same, and is recorded once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ledgers import make_folder, outcome
from tests.helpers.tiny import tiny_data
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder, checkpoint_name
from winnow.search.study.ledger import Ledger
from winnow.search.training import checkpoint
from winnow.search.training.checkpoint import Interval, load
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.retraining import retrain_one
from winnow.spaces import catalog
from winnow.spaces.epoch_figures import EPOCH_FIGURES

DATA = tiny_data(channels=1)
REPRODUCIBLE = ("epoch", "last", *(figure.name for figure in EPOCH_FIGURES if figure.reproducible))


def search(tmp_path: Path, job: Job, deaths: set[int], sampler: str) -> RunFolder:
    """Run a search with one worker, which dies after these reports, counted from 1."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=5, sampler=sampler, seed=1, grace_epochs=3)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, DATA.image_shape)
    job = replace(job, checkpoints=str(folder.checkpoints), rungs=tuple(ledger.scheduler.rungs))
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        for report in trial_reports(assignment, DATA, job):
            assert "status" not in report, report
            going_on = ledger.record(assignment.number, report)
            num_reports += 1
            if num_reports in deaths:
                assert ledger.lost(assignment.number)
                break
            if not going_on:
                break
    ledger.close()
    return folder


@pytest.mark.parametrize("sampler", ["random", "forecast"])
def test_deaths_change_nothing_that_is_recorded(sampler: str, tmp_path: Path) -> None:
    """`forecast` pauses trials, whose checkpoints are read again by another worker."""
    job = Job("", "cpu", 1, seed=0)
    whole = search(tmp_path / "whole", job, set(), sampler)
    seldom = replace(job, checkpoint_seconds=math.inf)
    interrupted = search(tmp_path / "interrupted", seldom, {2, 5, 9, 16, 18}, sampler)
    assert lines(interrupted) == lines(whole)
    assert outcome(interrupted) == outcome(whole)


def lines(folder: RunFolder) -> list[dict[str, Any]]:
    kept = (*REPRODUCIBLE, "trial", "decision", "rung")
    return [{key: line[key] for key in kept} for line in read_json_lines(folder.epochs)]


@pytest.mark.parametrize(("seconds", "epoch"), [(0.0, 5), (math.inf, 3)])
def test_a_checkpoint_is_written_at_rungs_and_at_the_end(seconds: float, epoch: int, tmp_path: Path) -> None:
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=1, sampler="random")
    assignment = Ledger(make_folder(tmp_path, space, settings), space, settings, DATA.image_shape).ask()
    assert assignment is not None
    job = Job(str(tmp_path), "cpu", 1, seed=0, checkpoint_seconds=seconds, rungs=(3, 9))
    path = tmp_path / checkpoint_name(assignment.number)
    written = [load(path)["epoch"] if path.exists() else 0 for _ in trial_reports(assignment, DATA, job)]
    assert written[4] == epoch
    assert written[2] == 3
    assert written[-1] == 9


def test_seconds_are_counted_from_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    interval = Interval(10.0, always=(4,), _since=now)
    due = []
    for epoch in range(1, 9):
        now += 4.0
        due.append(interval.is_due(epoch, last=epoch == 8))
    assert due == [False, False, True, True, False, False, True, True]
    assert all(Interval(0.0, _since=now).is_due(epoch, last=False) for epoch in range(1, 4))


def test_a_retraining_is_the_same_after_its_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = catalog.load("digits", ["epochs=4"]).example().model_dump(mode="json")
    which, job = Candidate(1, 1, config, 0.5), Job(str(tmp_path), "cpu", 1, seed=0, checkpoint_seconds=math.inf)
    saved: list[str] = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda where, state: (saved.append(Path(where).name), save(where, state)))
    retrain_one(DATA, which, 7, job, str(tmp_path / "predictions"))
    assert [name for name in saved if name.startswith("retraining")] == []
    retrain_one(DATA, which, 8, replace(job, checkpoint_seconds=0.0), str(tmp_path / "predictions"))
    assert len([name for name in saved if name.startswith("retraining")]) == 3
