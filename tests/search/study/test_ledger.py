"""The book of a search, driven without Ray: what is told to the study, what is stopped, and that a crash loses nothing."""

from __future__ import annotations

import json
import math
import random
from collections import Counter

import optuna
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from winnow.search.samplers.suggester import MAX_DRAFTS, SAMPLER_DRAFTS, Suggester
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder, create
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.samplers import SAMPLERS
from winnow.spaces.space import Space

SHAPE = (1, 8, 8)
STEPS = (  # a grid instead of the continuous ranges of digits
    "optimizer={choice: {adam: {lr: {log: [0.001, 0.01], step: 10}}, sgd: {lr: 0.1, momentum: {float: [0.8, 0.9], step: 0.05}}}}",
    "schedule=constant",
    "model.dropout={float: [0.0, 0.4], step: 0.2}",
    "model.depth={int: [1, 2]}",
)


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9"])


def make_folder(tmp_path, space: Space, settings: Settings) -> RunFolder:
    return create(
        tmp_path, None, "run", {"schema_version": 1, "space": space.tree, "settings": settings.to_dict(), "data": {}}
    )


def study_of(folder: RunFolder) -> optuna.Study:
    return optuna.load_study(study_name="winnow", storage=JournalStorage(JournalFileBackend(str(folder.journal))))


def report(assignment: Assignment, epoch: int, value: float | None = None, **more) -> dict:
    """What a worker would report: a curve that rises to a level that the config decides."""
    level = random.Random(json.dumps(assignment.config, sort_keys=True)).uniform(0.3, 0.95)
    accuracy = level * (1 - math.exp(-epoch / 3)) if value is None else value
    figures = {"epoch": epoch, "validation_accuracy": accuracy, "validation_loss": 1 - accuracy, "diverged": False}
    return {**figures, "last": epoch == assignment.config["epochs"], "weights_epoch": epoch, **more}


def run_to_the_end(ledger: Ledger, crash_after: int | None = None) -> bool:
    """One worker; False if the driver "crashed" after so many reports (the ledger is simply dropped)."""
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, assignment.config["epochs"] + 1):
            if crash_after is not None and num_reports == crash_after:
                return False
            num_reports += 1
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
    ledger.close()
    return True


def outcome(folder: RunFolder) -> list[tuple]:
    """Everything a study says of its trials, without times."""
    return [
        (t.number, t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs.get("status"))
        for t in study_of(folder).get_trials(deepcopy=False)
    ]


def test_states_values_and_counts(tmp_path, space):
    settings = settings_for(space, trials=12)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assert run_to_the_end(ledger)
    ran = study_of(folder).trials
    assert len(ran) == 12 == ledger.num_asked == ledger.num_ended
    assert {t.user_attrs["status"]: t.state.name for t in ran} == {"completed": "COMPLETE", "stopped": "PRUNED"}
    for trial in ran:
        epochs = sorted(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert (len(epochs) == 9) == (trial.user_attrs["status"] == "completed")
        assert trial.state.name != "PRUNED" or epochs[-1] in ledger.scheduler.rungs
    best = max((t for t in ran if t.state.name == "COMPLETE"), key=lambda t: t.value)
    assert ledger.best == (best.number, best.value)


def test_start_from_is_tried_first(tmp_path, space):
    settings = settings_for(space, trials=3)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    first, second = ledger.ask(), ledger.ask()
    assert first.source == "start_from:recipes/digits-baseline"
    assert first.config["model"]["stages"][0]["filters"] == 16
    assert second.source == "sampler"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"value": math.nan}, "diverged"),
        ({"diverged": True, "last": True, "value": 0.5}, "diverged"),
        ({"status": "failed", "error": "Traceback ...\nValueError: no"}, "failed"),
        ({"status": "out_of_memory", "error": "CUDA out of memory"}, "out_of_memory"),
    ],
)
def test_bad_ends_are_told_as_fail(tmp_path, space, bad, status):
    settings = settings_for(space, trials=2)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert ledger.record(assignment.number, report(assignment, 1))
    if status == "out_of_memory":
        assert not ledger.record(assignment.number, bad)
        again = ledger.ask()
        assert (again.number, again.recorded, again.micro_batches) == (assignment.number, 1, 4)  # never as it was
    bad_report = bad if "status" in bad else report(assignment, 2, **bad)
    assert not ledger.record(assignment.number, bad_report)
    assert not ledger.record(assignment.number, report(assignment, 3))  # a late one changes nothing
    trial = study_of(folder).trials[assignment.number]
    assert (trial.state.name, trial.user_attrs["status"]) == ("FAIL", status)
    assert list(trial.intermediate_values) == [1]
    assert trial.user_attrs.get("error") == bad.get("error")
    assert ledger.counts == {status: 1}
    assert all("NaN" not in line for line in folder.epochs.read_text().splitlines())


def test_kept_weights_decide_the_value(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    for epoch, value in enumerate([0.5, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7], start=1):
        ledger.record(assignment.number, report(assignment, epoch, value, weights_epoch=2))
    assert study_of(folder).trials[0].value == 0.9


def test_an_epoch_told_twice_counts_once(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert ledger.record(assignment.number, report(assignment, 1, 0.5))
    assert ledger.record(assignment.number, report(assignment, 1, 0.1))
    assert study_of(folder).trials[0].intermediate_values == {1: 0.5}
    assert len(list(read_json_lines(folder.epochs))) == 1


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
    settings = settings_for(space, trials=3, grace_epochs=1, sampler="tpe")
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


def test_a_run_of_an_earlier_version_is_not_continued_with_other_seeds(tmp_path, space):
    """Its trials have no seed of their own, and would silently be trained, ordered and audited by other random numbers."""
    settings = settings_for(space, trials=3)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assert ledger.ask().seed == study_of(folder).trials[0].user_attrs["seed"]
    ledger.close()
    journal = folder.journal.read_text().splitlines(keepends=True)
    folder.journal.write_text("".join(line.replace('"seed"', '"sown"') for line in journal))
    with pytest.raises(InputError, match=r"an earlier version of Winnow began this run.*--warm-start"):
        Ledger(folder, space, settings, SHAPE)


def test_identical_configs_run_once(tmp_path):
    space = catalog.load(
        "digits", ["epochs=2", "optimizer={name: adam, lr: 0.001}", "model.dropout=0.0", "schedule=constant"]
    )
    space = Space.from_tree(
        {**space.tree, "batch_size": {"choice": [32, 64]}, "model": {"name": "mlp", "hidden": [8]}, "start_from": {}},
        "two",
    )
    settings = settings_for(space, trials=10)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    run_to_the_end(ledger)
    assert space.size() == 2 == ledger.num_ended
    assert ledger.exhausted
    assert len(study_of(folder).trials) == 2


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


def test_the_same_traceback_three_times_is_a_bug(tmp_path, space):
    settings = settings_for(space, trials=20)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    for error in (
        "Traceback\nValueError: a",
        "Traceback\nKeyError: 1",
        "Tb\nValueError: a",
        "Traceback\nValueError: a",
    ):
        assert ledger.bug is None
        ledger.record(ledger.ask().number, {"status": "failed", "error": error})
    assert ledger.bug == "Traceback\nValueError: a"
    assert ledger.ask() is None


def test_infeasible_suggestions_leave_no_trace(tmp_path):
    """Four stages that may all pool 8x8 images: many drafts cannot be built, none of them becomes a trial."""
    space = catalog.load("digits", ["epochs=1", "model.depth=4"])
    settings = settings_for(space, trials=25)
    folder = make_folder(tmp_path, space, settings)
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    configs = [t.user_attrs["config"] for t in study_of(folder).trials]
    assert len(configs) == 25
    assert not any(space.infeasible(config, SHAPE) for config in configs)


def test_a_sampler_that_insists_on_what_cannot_be_built_is_left_soon(tmp_path, space, monkeypatch):
    settings = settings_for(space, sampler="tpe")
    asked = []

    def draft(study, sampler, number):
        asked.append(type(sampler).__name__)

    monkeypatch.setattr("winnow.search.samplers.suggester.Draft", draft)
    monkeypatch.setattr(Suggester, "_config_of", lambda self, draft: None)
    suggester = Suggester(space, settings, SHAPE, [1])
    assert suggester.next(optuna.create_study(), suggester.sampler(0), 0) is None
    assert asked == ["OneSplitTpe"] * SAMPLER_DRAFTS + ["RandomSampler"] * (MAX_DRAFTS - SAMPLER_DRAFTS)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_suggests_the_same_again(tmp_path, space, sampler):
    """What is suggested depends on seed, number and study alone; every sampler leaves the study usable."""
    if sampler == "grid":
        space = catalog.load("digits", ["epochs=9", *STEPS])
    settings = settings_for(space, trials=14, sampler=sampler, seed=5)
    outcomes = []
    for name in ("a", "b"):
        folder = make_folder(tmp_path / name, space, settings)
        run_to_the_end(Ledger(folder, space, settings, SHAPE))
        outcomes.append(outcome(folder))
    assert outcomes[0] == outcomes[1]
    assert len(outcomes[0]) == 14
    assert len({str(params) for _, _, _, params, _, _ in outcomes[0]}) == 14


def test_a_lock_left_by_a_killed_driver_is_no_obstacle(tmp_path, space):
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    Ledger(folder, space, settings, SHAPE).close()
    (folder.path / "study.journal.lock").symlink_to("where/the/run/was/before")
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    assert len(study_of(folder).trials) == 1


def test_paused_trials_are_resumed_or_ended(tmp_path, space):
    """With the forecast sampler a trial hands its worker back at every rung; at the end none is left open."""
    settings = settings_for(space, trials=10, sampler="forecast")
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    starts = []
    while (assignment := ledger.ask()) is not None:
        starts.append(assignment.number)
        for epoch in range(assignment.recorded + 1, assignment.config["epochs"] + 1):
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
        assert epoch in [*ledger.scheduler.rungs, 9]
    assert ledger.finished
    assert sorted(set(starts)) == list(range(10))
    assert len(starts) > 10  # some were resumed
    states = Counter(trial.state.name for trial in study_of(folder).trials)
    assert set(states) == {"COMPLETE", "PRUNED"}
    decisions = Counter(line["decision"] for line in read_json_lines(folder.epochs))
    assert decisions["pause"] == len(starts) - states["COMPLETE"]


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
        assert ledger.lose(0) == (epoch < 9)
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
        ledger.lose(assignment.number, "Traceback ...\nModuleNotFoundError: No module named 'mine'")
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


def test_repeats_of_a_space_with_nothing_open(tmp_path):
    """The default sampler has nothing to forecast by; such a search once raised in its ninth trial."""
    space = catalog.load("recipes/digits-baseline", ["epochs=9"])
    settings = settings_for(space, trials=12, repeats=12)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    assert run_to_the_end(ledger)
    assert ledger.num_ended == 12
