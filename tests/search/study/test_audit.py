"""The audit changes nothing but that some stopped trials are trained to their end, whatever crashes in between."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.helpers.ledgers import SHAPE, make_folder, outcome, report, run_to_the_end, study_of
from winnow.search.settings import Settings, settings_for
from winnow.search.storage import remote as storage
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder, checkpoint_name, write_study
from winnow.search.study.ledger import Ledger
from winnow.search.study.stop_audit import is_audited
from winnow.spaces import catalog
from winnow.spaces.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9", "start_from={}"])


def searched(folder: RunFolder, space: Space, settings: Settings) -> RunFolder:
    assert run_to_the_end(Ledger(folder, space, settings, SHAPE))
    return folder


def audit_lines(folder: RunFolder) -> list[dict]:
    return [line for line in read_json_lines(folder.epochs) if line["phase"] == "audit"]


def test_the_share_is_that_of_the_trials_and_depends_on_seed_and_number_alone():
    chosen = [number for number in range(10_000) if is_audited(0.05, 7, number)]
    assert 400 < len(chosen) < 600  # 500 expected, standard deviation 22: beyond 4.5 of them once in 150,000
    assert chosen == [number for number in range(10_000) if is_audited(0.05, 7, number)]
    assert chosen != [number for number in range(10_000) if is_audited(0.05, 8, number)]
    assert not any(is_audited(0.0, 7, number) for number in range(100))
    assert all(is_audited(1.0, 7, number) for number in range(100))


@pytest.mark.parametrize("sampler", ["tpe", "forecast"])
def test_the_search_is_the_same_with_and_without(tmp_path, space, sampler):
    """Suggestions, values, states, rungs and winners; and every audited trial that was stopped has all of its epochs."""
    plain = settings_for(space, trials=14, seed=3, sampler=sampler)
    audited = settings_for(space, trials=14, seed=3, sampler=sampler, audit=0.6)
    without = searched(make_folder(tmp_path / "a", space, plain), space, plain)
    with_audit = searched(make_folder(tmp_path / "b", space, audited), space, audited)
    assert outcome(with_audit) == outcome(without)
    stopped = [t for t in study_of(with_audit).trials if t.user_attrs["status"] == "stopped"]
    chosen = [t for t in stopped if is_audited(0.6, 3, t.number)]
    assert 0 < len(chosen) < len(stopped)
    found: dict[int, list[int]] = {}
    for line in audit_lines(with_audit):
        found.setdefault(line["trial"], []).append(line["epoch"])
        assert (line["rung"], line["decision"]) == (None, None)
    assert found == {t.number: list(range(max(t.intermediate_values) + 1, 10)) for t in chosen}
    assert (
        Ledger(with_audit, space, audited, SHAPE).scheduler.table()
        == Ledger(without, space, plain, SHAPE).scheduler.table()
    )
    assert not list(with_audit.checkpoints.iterdir())


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(crashes=st.lists(st.integers(0, 40), min_size=1, max_size=4))
@pytest.mark.parametrize("sampler", ["tpe", "forecast"])
def test_crashes_lose_no_audit(tmp_path_factory, space, sampler, crashes):
    settings = settings_for(space, trials=12, seed=3, sampler=sampler, audit=0.6)
    undisturbed = searched(make_folder(tmp_path_factory.mktemp("a"), space, settings), space, settings)
    killed = make_folder(tmp_path_factory.mktemp("b"), space, settings)
    for crash_after in [*crashes, None]:
        if run_to_the_end(Ledger(killed, space, settings, SHAPE), crash_after):
            break
    assert outcome(killed) == outcome(undisturbed)
    values = [
        sorted((line["trial"], line["epoch"], line["validation_accuracy"]) for line in audit_lines(folder))
        for folder in (killed, undisturbed)
    ]
    assert values[0] == values[1] != []


def test_the_checkpoint_is_kept_until_the_audit_ends(tmp_path, space):
    settings = settings_for(space, trials=2, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    good, bad = ledger.ask(), ledger.ask()
    for assignment in (good, bad):
        Path(folder.checkpoint(assignment.number)).write_bytes(b"weights")
    assert ledger.record(good.number, report(good, 1, 0.9))
    assert ledger.record(bad.number, report(bad, 1, 0.1))  # stopped, and its worker goes on
    assert ledger.counts == {"stopped": 1}
    ledger.wind_down()
    assert not ledger.record(bad.number, report(bad, 2, 0.2))
    again = Ledger(folder, space, settings, SHAPE)
    asked = [again.ask(), again.ask()]
    assert [(a.number, a.recorded) for a in asked] == [(good.number, 1), (bad.number, 2)]
    assert Path(folder.checkpoint(bad.number)).exists()
    for epoch in range(3, 10):
        going_on = again.record(bad.number, report(bad, epoch, 0.2))
        assert going_on == (epoch < 9)
    assert not Path(folder.checkpoint(bad.number)).exists()
    assert study_of(folder).trials[bad.number].intermediate_values == {1: 0.1}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_checkpoints_of_ended_trials_go_at_the_next_start(tmp_path, space, scheme):
    """A driver that is killed after it has recorded an end has not deleted the checkpoint yet."""
    settings = settings_for(space, trials=8, audit=0.6, seed=3, grace_epochs=1, sampler="tpe")
    folder = make_folder(tmp_path, space, settings)
    if scheme:
        write_study(folder, {**folder.read_study(), "storage": f"{scheme}{tmp_path}/storage"})
        folder = RunFolder(folder.path)
    ledger = Ledger(folder, space, settings, SHAPE)
    asked = [ledger.ask() for _ in range(8)]
    for assignment in asked[:-1]:  # the first one is so good that the others are stopped
        ledger.record(assignment.number, report(assignment, 1, 0.9 - 0.1 * assignment.number))
    ended = {trial.number for trial in study_of(folder).trials if trial.state.is_finished()}
    audited = {number for number in ended if is_audited(0.6, 3, number)}
    assert 0 < len(audited) < len(ended) < 7
    for number in range(8):
        storage.write(folder.checkpoint(number), b"weights")
    Ledger(folder, space, settings, SHAPE)
    left = set(storage.names(storage.join(folder.shared, "checkpoints")))
    assert left == {checkpoint_name(number) for number in range(8) if number not in ended - audited}


def test_an_audit_whose_worker_is_lost_goes_on_from_its_checkpoint(tmp_path, space):
    settings = settings_for(space, trials=2, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    good, bad = ledger.ask(), ledger.ask()
    ledger.record(good.number, report(good, 1, 0.9))
    ledger.record(bad.number, report(bad, 1, 0.1))
    for lost in range(1, 6):
        ledger.lost(bad.number)
        again = ledger.ask()
        assert (again and (again.number, again.recorded)) == ((bad.number, 1) if lost <= 3 else None)


def test_an_audit_outlives_any_number_of_processes_that_other_trials_spoiled(tmp_path, space):
    settings = settings_for(space, trials=2, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    good, bad = ledger.ask(), ledger.ask()
    ledger.record(good.number, report(good, 1, 0.9))
    ledger.record(bad.number, report(bad, 1, 0.1))
    for _ in range(6):
        ledger.lost(bad.number, began=False)
        again = ledger.ask()
        assert (again.number, again.recorded) == (bad.number, 1)


def test_an_audit_that_fails_is_tried_again_at_the_next_start(tmp_path, space):
    settings = settings_for(space, trials=2, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    good, bad = ledger.ask(), ledger.ask()
    ledger.record(good.number, report(good, 1, 0.9))
    ledger.record(bad.number, report(bad, 1, 0.1))
    assert not ledger.record(bad.number, {"status": "failed", "error": "Traceback\nValueError: no"})
    assert ledger.counts == {"stopped": 1}
    ledger.close()
    again = Ledger(folder, space, settings, SHAPE)
    assert [(a.number, a.recorded) for a in (again.ask(), again.ask())] == [(0, 1), (bad.number, 1)]


def test_a_trial_whose_end_is_half_written_is_continued_and_not_audited_as_well(tmp_path, space):
    """The driver died between the two writes of the end: the status is there, and the trial still runs for the study."""
    settings = settings_for(space, trials=2, sampler="random", audit=1.0)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert assignment is not None
    ledger._record.write_attrs(assignment.number, status="stopped")
    ledger.close()
    again = Ledger(folder, space, settings, SHAPE)
    started = [trial.number for trial in (again.ask(), again.ask()) if trial is not None]
    again.close()
    assert started == [0, 1]


def test_lines_of_an_audit_that_are_ahead_of_the_study(tmp_path, space, monkeypatch):
    """The driver died after the lines of the stop and of the audit, before the study knew of either: no epoch is recorded twice."""
    settings = settings_for(space, trials=2, audit=1.0, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    good, bad = ledger.ask(), ledger.ask()
    ledger.record(good.number, report(good, 1, 0.9))
    with monkeypatch.context() as patched:
        patched.setattr(ledger._record._journal, "flush", lambda: None)
        ledger.record(bad.number, report(bad, 1, 0.1))
        ledger.record(bad.number, report(bad, 2, 0.2))
    again = Ledger(folder, space, settings, SHAPE)
    assert [(trial.number, trial.recorded) for trial in (again.ask(), again.ask())] == [(0, 1), (bad.number, 2)]
    for epoch in range(2, 10):
        assert again.record(bad.number, report(bad, epoch, 0.1 * epoch)) == (epoch < 9)
    again.close()
    assert [line["epoch"] for line in audit_lines(folder)] == list(range(2, 10))


def test_the_end_of_a_paused_trial_is_on_the_disk_before_its_audit(tmp_path, space):
    """Its end is in no line, so lines of the audit that a power cut leaves alone would be written again."""
    settings = settings_for(space, sampler="forecast", trials=12, audit=1.0)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    ledger.grouped = True
    num_audits = 0
    while (assignment := ledger.ask()) is not None:
        if assignment.number not in ledger._open:
            num_audits += 1
            assert study_of(folder).get_trials()[assignment.number].state.is_finished()
        epoch, going_on = assignment.recorded, True
        while going_on:
            epoch += 1
            going_on = ledger.record(assignment.number, report(assignment, epoch))
    ledger.close()
    assert num_audits
