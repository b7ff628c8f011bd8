"""Many events, one wait for the disk: what was not committed is as if it had not been reported, and nothing is deleted or told before."""

from __future__ import annotations

import builtins
import io
import os

import pytest

from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.study import trial_book
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog


class Killed(BaseException):
    pass


def die(*arguments: object) -> None:
    raise Killed


@pytest.fixture
def search(tmp_path, monkeypatch):
    """A ledger whose events wait for a commit, two trials that run, its folder, and how to start again."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, sampler="random", trials=6, grace_epochs=1)
    folder = make_folder(tmp_path, space, settings)
    monkeypatch.setattr(trial_book, "GROUP_SECONDS", 1e9)
    events: list[tuple[str, int]] = []

    def start() -> Ledger:
        ledger = Ledger(folder, space, settings, SHAPE, lambda event: events.append((event.kind, event.number)))
        ledger.grouped = True
        return ledger

    ledger = start()
    running = [ledger.ask(), ledger.ask()]
    events.clear()
    return ledger, running, folder, start, events


def test_a_start_reads_the_study_and_its_journal_once(search, monkeypatch):
    ledger, _, _, start, _ = search
    ledger.close()
    read: list[str] = []

    def opening(file, mode="r", *more, **options):
        if set(mode) <= set("rbt"):
            read.append(os.path.basename(file))
        return real(file, mode, *more, **options)

    real = open
    for module in (builtins, io):  # pathlib uses the other one
        monkeypatch.setattr(module, "open", opening)
    start()
    assert (read.count("study.journal"), read.count("study.yaml")) == (1, 1)


def test_a_trial_is_on_the_disk_before_it_runs(search):
    _, (first, second), folder, _, _ = search
    assert [trial.number for trial in study_of(folder).trials] == [first.number, second.number]


def test_a_new_trial_waits_for_one_file_and_takes_no_result_along(search, monkeypatch):
    ledger, (first, _), folder, _, _ = search
    ledger.record(first.number, report(first, 1, 0.9))
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    third = ledger.ask()
    assert len(waits) == 1
    assert [trial.number for trial in study_of(folder).trials] == [0, 1, third.number]
    assert not folder.epochs.read_text()
    assert study_of(folder).trials[first.number].intermediate_values == {}


def test_the_size_of_a_network_is_on_the_disk_before_its_first_epoch(search, monkeypatch):
    """A worker that goes on after the epoch does not say it again."""
    ledger, (first, _), folder, _, _ = search
    ledger.note_size(first.number, {"num_parameters": 7})
    ledger.record(first.number, report(first, 1, 0.9))
    with monkeypatch.context() as patched:
        patched.setattr(ledger._record._lines, "flush", die)
        with pytest.raises(Killed):
            ledger.commit()
    assert study_of(folder).trials[first.number].user_attrs["num_parameters"] == 7


def test_many_events_wait_once_for_each_file(search, monkeypatch):
    ledger, (first, second), folder, _, events = search
    waits: list[int] = []
    monkeypatch.setattr(os, "fsync", waits.append)
    for epoch, value in ((1, 0.9), (2, 0.91), (3, 0.92)):
        assert ledger.record(first.number, report(first, epoch, value))
    folder.checkpoints.mkdir(exist_ok=True)
    checkpoint = folder.checkpoints / f"trial-{second.number:05d}.pt"
    checkpoint.write_bytes(b"x")
    assert not ledger.record(second.number, report(second, 1, 0.1)), "judged: stop"
    assert (waits, events, folder.epochs.read_text()) == ([], [], "")
    assert checkpoint.exists(), "its trial would go on from it if the driver died now"
    ledger.commit()
    assert len(waits) == 2
    assert not checkpoint.exists()
    assert ("ended", second.number) in events
    assert [line["epoch"] for line in read_json_lines(folder.epochs)] == [1, 2, 3, 1]
    assert [trial.state.name for trial in study_of(folder).trials] == ["RUNNING", "PRUNED"]


def test_what_was_not_committed_was_not_reported(search):
    ledger, (first, second), folder, start, _ = search
    ledger.record(first.number, report(first, 1, 0.9))
    ledger.commit()
    ledger.record(first.number, report(first, 2, 0.91))
    ledger.record(second.number, report(second, 1, 0.1))
    again = start()  # the driver is dead
    resumed = {trial.number: trial.recorded for trial in (again.ask(), again.ask())}
    assert resumed == {first.number: 1, second.number: 0}
    assert again.record(first.number, report(first, 2, 0.91))
    again.commit()
    assert [(line["trial"], line["epoch"]) for line in read_json_lines(folder.epochs)] == [(0, 1), (0, 2)]


def test_death_between_the_two_writes_of_a_group(search, monkeypatch):
    """All lines are on the disk, the study knows nothing: the next start takes over every value and the verdict."""
    ledger, (first, second), folder, start, _ = search
    for epoch, value in ((1, 0.9), (2, 0.91), (3, 0.92)):
        ledger.record(first.number, report(first, epoch, value))
    ledger.record(second.number, report(second, 1, 0.1))
    with monkeypatch.context() as patched:
        patched.setattr(ledger._record._journal, "flush", die)
        with pytest.raises(Killed):
            ledger.commit()
    again = start()
    trials = study_of(folder).trials
    assert trials[0].intermediate_values == {1: 0.9, 2: 0.91, 3: 0.92}
    assert (trials[1].state.name, trials[1].intermediate_values) == ("PRUNED", {1: 0.1})
    assert (again.ask().recorded, again.num_ended) == (3, 1)


def test_an_idle_search_commits(search, monkeypatch):
    ledger, (first, _), folder, _, _ = search
    ledger.record(first.number, report(first, 1, 0.9))
    ledger.settle()
    assert not folder.epochs.read_text()
    monkeypatch.setattr(trial_book, "GROUP_SECONDS", 0.0)
    ledger.settle()
    assert len(list(read_json_lines(folder.epochs))) == 1


def test_the_end_commits(search):
    ledger, (first, _), folder, _, _ = search
    ledger.record(first.number, report(first, 1, 0.9))
    ledger.close()
    assert len(list(read_json_lines(folder.epochs))) == 1


def test_after_a_failed_commit_nothing_is_told_or_deleted(search, monkeypatch):
    """The disk is full for a moment: what was dropped must not be announced by the next commit, which has nothing to write."""
    ledger, (first, second), folder, _, events = search
    folder.checkpoints.mkdir(exist_ok=True)
    checkpoint = folder.checkpoints / f"trial-{second.number:05d}.pt"
    checkpoint.write_bytes(b"x")
    ledger.record(first.number, report(first, 1, 0.9))
    ledger.record(second.number, report(second, 1, 0.1))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _refuse)
        with pytest.raises(OSError, match="full"):
            ledger.commit()
    ledger.close()
    assert not events
    assert checkpoint.exists()


def _refuse(handle: int) -> None:
    raise OSError(28, "full")
