"""The ledger after crashes of the driver and losses of workers: nothing is lost, doubled or charged wrongly."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.helpers.ledgers import SHAPE, make_folder, outcome, report, run_to_the_end, study_of
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9"])


@pytest.mark.parametrize("changes", [{"audit": 1.0}, {"stop_when": "no gain"}])
def test_lines_that_winnow_does_not_write_are_skipped(tmp_path, space, changes):
    """A run may come from somebody else."""
    settings = settings_for(space, trials=6, seed=3, sampler="random", **changes)
    undisturbed = make_folder(tmp_path / "a", space, settings)
    run_to_the_end(Ledger(undisturbed, space, settings, SHAPE))
    received = make_folder(tmp_path / "b", space, settings)
    assert not run_to_the_end(Ledger(received, space, settings, SHAPE), crash_after=12)
    last = list(read_json_lines(received.epochs))[-1]
    lines = JsonLines(received.epochs)
    for phase in ("search", "audit"):
        following = {**last, "phase": phase, "epoch": last["epoch"] + 1}
        for key in ("trial", "seed", "epoch"):
            lines.append({name: value for name, value in following.items() if name != key})
        for key in (
            "phase",
            "trial",
            "seed",
            "epoch",
            "diverged",
            "last",
            "time",
            "wall_seconds",
            "weights_epoch",
            "lr",
            "decision",
        ):
            lines.append({**following, key: ["text"]})
    lines.close()
    run_to_the_end(Ledger(received, space, settings, SHAPE))
    assert outcome(received) == outcome(undisturbed)


@pytest.mark.parametrize("attribute", ["config", "source", "seed", "started", "status"])
def test_a_trial_without_an_attribute_is_refused(tmp_path, space, attribute):
    settings = settings_for(space, trials=2, seed=3, sampler="random")
    folder = make_folder(tmp_path, space, settings)
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    journal = folder.journal.read_text()
    assert f'"{attribute}"' in journal
    folder.journal.write_text(journal.replace(f'"{attribute}"', '"other"'))
    message = "earlier version" if attribute == "seed" else f"damaged: trial 0 has no {attribute}"
    with pytest.raises(InputError, match=message):
        Ledger(folder, space, settings, SHAPE)


@hypothesis_settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(crashes=st.lists(st.integers(0, 30), min_size=1, max_size=4))
@pytest.mark.parametrize("sampler", ["tpe", "forecast"])
def test_crashes_change_nothing(tmp_path_factory, space, sampler, crashes):
    """With one worker, a search that was killed again and again equals the undisturbed one, trial by trial."""
    settings = settings_for(space, trials=8, seed=3, sampler=sampler)
    undisturbed = make_folder(tmp_path_factory.mktemp("a"), space, settings)
    run_to_the_end(Ledger(undisturbed, space, settings, SHAPE))
    killed = make_folder(tmp_path_factory.mktemp("b"), space, settings)
    for crash_after in crashes:
        if run_to_the_end(Ledger(killed, space, settings, SHAPE), crash_after):
            break
    else:
        run_to_the_end(Ledger(killed, space, settings, SHAPE))
    assert outcome(killed) == outcome(undisturbed)
    lines = [(line["trial"], line["epoch"]) for line in read_json_lines(killed.epochs)]
    assert len(lines) == len(set(lines))


def test_death_between_the_two_writes(tmp_path, space, monkeypatch):
    """The line is in epochs.jsonl, the study has not heard of it: the next start takes the value and the verdict over."""
    settings = settings_for(space, trials=3, grace_epochs=1, sampler="tpe", top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    first, second = ledger.ask(), ledger.ask()
    assert ledger.record(first.number, report(first, 1, 0.9))

    class Killed(BaseException):
        pass

    def die(*arguments):
        raise Killed

    monkeypatch.setattr(ledger._record._journal, "flush", die)
    with pytest.raises(Killed):
        ledger.record(first.number, report(first, 2, 0.91))
    with pytest.raises(Killed):
        ledger.record(second.number, report(second, 1, 0.1))  # judged: stop
    again = Ledger(folder, space, settings, SHAPE)
    trials = study_of(folder).trials
    assert trials[0].intermediate_values == {1: 0.9, 2: 0.91}
    assert trials[0].state.name == "RUNNING"
    assert (trials[1].state.name, trials[1].intermediate_values) == ("PRUNED", {1: 0.1})
    readopted = again.ask()
    assert (readopted.number, readopted.recorded, readopted.seed) == (first.number, 2, first.seed)


def test_a_lock_left_by_a_killed_driver_is_no_obstacle(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    Ledger(folder, space, settings, SHAPE).close()
    (folder.path / "study.journal.lock").symlink_to("where/the/run/was/before")
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    assert len(study_of(folder).trials) == 1


def test_a_config_to_start_from_is_not_paused_and_goes_on_after_a_crash(tmp_path, space):
    settings = settings_for(space, trials=10, sampler="forecast", grace_epochs=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    given, suggested = ledger.ask(), ledger.ask()
    assert (given.source, suggested.source) == ("start_from:recipes/digits-baseline", "sampler")
    assert ledger.record(given.number, report(given, 1, 0.5))
    assert not ledger.record(suggested.number, report(suggested, 1, 0.9))
    again = Ledger(folder, space, settings, SHAPE)
    assert [again.ask().number for _ in range(2)] == [given.number, 2]


def test_losses_with_progress_are_not_charged(tmp_path, space):
    """A spot instance goes after every epoch, nine times: the trial completes. A resume still knows how often."""
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    for epoch in range(1, 10):
        assignment = ledger.ask()
        assert (assignment.number, assignment.recorded) == (0, epoch - 1)
        if epoch == 5:
            ledger = Ledger(folder, space, settings, SHAPE)
            assignment = ledger.ask()
        ledger.record(0, report(assignment, epoch))
        assert ledger.lost(0) == (epoch < 9)
        assert not ledger.finished or epoch == 9
    trial = study_of(folder).trials[0]
    assert (trial.state.name, trial.user_attrs["status"], trial.user_attrs["worker_losses"]) == (
        "COMPLETE",
        "completed",
        8,
    )


def test_a_trial_that_kills_its_workers_ends(tmp_path, space):
    settings = settings_for(space, trials=20)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    starts = Counter()
    while (assignment := ledger.ask()) is not None:
        starts[assignment.number] += 1
        ledger.lost(assignment.number, "Traceback ...\nModuleNotFoundError: No module named 'mine'")
    # Four starts each; the third such trial makes it a cause that all have in common.
    assert starts == {0: 4, 1: 4, 2: 4}
    assert [trial.user_attrs["status"] for trial in study_of(folder).trials] == ["lost"] * 3
    assert "4 times in a row" in ledger.bug
    assert ledger.bug.endswith("No module named 'mine'")


def test_a_second_try_in_pieces_survives_a_crash(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    ledger.record(ledger.ask().number, {"status": "out_of_memory", "error": "CUDA out of memory"})
    again = Ledger(folder, space, settings, SHAPE)
    assert again.ask().micro_batches == 4
    assert not again.finished
    again.record(0, {"status": "out_of_memory", "error": "CUDA out of memory"})
    assert again.finished
    assert study_of(folder).trials[0].user_attrs["status"] == "out_of_memory"


def test_an_epoch_told_twice_counts_once(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert ledger.record(assignment.number, report(assignment, 1, 0.5))
    assert ledger.record(assignment.number, report(assignment, 1, 0.1))
    assert study_of(folder).trials[0].intermediate_values == {1: 0.5}
    assert len(list(read_json_lines(folder.epochs))) == 1


def test_winding_down_leaves_trials_open(tmp_path, space):
    settings = settings_for(space, trials=5)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    first, _ = ledger.ask(), ledger.ask()
    ledger.record(first.number, report(first, 1))
    ledger.wind_down()
    assert ledger.ask() is None
    assert not ledger.record(first.number, report(first, 2))
    ledger.close()
    states = [t.state.name for t in study_of(folder).trials]
    assert states == ["RUNNING", "RUNNING"]
    again = Ledger(folder, space, settings, SHAPE)
    run_to_the_end(again)
    assert again.num_ended == 5
