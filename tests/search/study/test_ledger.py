"""The ledger, driven without Ray: what the study records, what is stopped, and what is tried."""

from __future__ import annotations

import math
from collections import Counter, deque

import optuna
import pytest

from tests.helpers.ledgers import SHAPE, STEPS, make_folder, outcome, report, run_to_the_end, study_of
from winnow.search.samplers.suggester import MAX_REFUSED, SAMPLER_DRAFTS, Shortage, Suggester
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.samplers import SAMPLERS
from winnow.spaces.space import Space


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=9"])


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


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
def test_the_baseline_is_trained_to_its_end(tmp_path, space, sampler):
    """Only then is it retrained as the winners are, with what validation images decided. Successive halving once stopped it."""
    settings = settings_for(space, trials=20, sampler=sampler, top=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    baseline, *others = [ledger.ask() for _ in range(6)]
    left = deque([*others, baseline])  # so that others are ahead of it at each rung
    while (assignment := left.popleft() if left else ledger.ask()) is not None:
        is_baseline = assignment.number == 0
        for epoch in range(assignment.recorded + 1, 10):
            value = 0.1 if is_baseline else 0.5 + epoch / 100
            if not ledger.record(assignment.number, report(assignment, epoch, value)):
                break
    ledger.close()
    states = [trial.state.name for trial in study_of(folder).get_trials(deepcopy=False)]
    assert states[0] == "COMPLETE"


def test_a_baseline_that_diverges_ends(tmp_path, space):
    settings = settings_for(space, trials=2, sampler="random")
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    assignment = ledger.ask()
    assert not ledger.record(assignment.number, report(assignment, 1, math.nan, diverged=True))


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        ({"value": math.nan, "diverged": True}, "diverged"),
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


NO_VALUE = {"validation_accuracy": None}


def open_ledger(tmp_path, space, **options):
    settings = settings_for(space, **{"trials": 1, "sampler": "random", "grace_epochs": 3, **options})
    folder = make_folder(tmp_path, space, settings)
    return folder, settings, Ledger(folder, space, settings, SHAPE)


@pytest.mark.parametrize("restarted", [False, True])
def test_an_epoch_without_a_value_does_not_end_a_trial(tmp_path, space, restarted):
    """The loss is finite, so the training has not diverged; the trial is not compared at this epoch."""
    folder, settings, ledger = open_ledger(tmp_path, space)
    assignment = ledger.ask()
    for epoch in range(1, 10):
        assert ledger.record(
            assignment.number, report(assignment, epoch, **NO_VALUE if epoch in (1, 2, 5) else {})
        ) == (epoch < 9)
        if restarted and epoch in (2, 4, 5):
            ledger.close()
            ledger = Ledger(folder, space, settings, SHAPE)
            assignment = ledger.ask()
            assert assignment.recorded == epoch
    trial = study_of(folder).trials[0]
    assert (trial.user_attrs["status"], sorted(trial.intermediate_values)) == ("completed", [3, 4, 6, 7, 8, 9])
    assert [line["epoch"] for line in read_json_lines(folder.epochs)] == list(range(1, 10))
    assert not any(line["diverged"] for line in read_json_lines(folder.epochs))
    ledger.close()


@pytest.mark.parametrize("epoch", [3, 9])
@pytest.mark.parametrize("killed", [False, True])
def test_a_trial_without_a_value_where_it_is_compared_fails(tmp_path, space, epoch, killed):
    """At a rung (3), and at its end (9)."""
    folder, settings, ledger = open_ledger(tmp_path, space)
    assignment = ledger.ask()
    for earlier in range(1, epoch):
        assert ledger.record(assignment.number, report(assignment, earlier))
    before = folder.journal.read_text()
    assert not ledger.record(assignment.number, report(assignment, epoch, **NO_VALUE))
    ledger.close()
    if killed:  # between the two writes
        folder.journal.write_text(before)
        Ledger(folder, space, settings, SHAPE).close()
    trial = study_of(folder).trials[0]
    assert (trial.state.name, trial.user_attrs["status"]) == ("FAIL", "failed")
    assert trial.user_attrs["error"] == (
        f"validation_accuracy has no value for the weights of epoch {epoch}: it is not a finite number there, so the trial cannot be "
        "compared with others"
    )
    assert sorted(trial.intermediate_values) == list(range(1, epoch))


def test_weights_that_are_kept_keep_their_value(tmp_path, space):
    folder, _, ledger = open_ledger(tmp_path, space)
    assignment = ledger.ask()
    for epoch in range(1, 10):
        more = NO_VALUE if epoch > 2 else {}
        ledger.record(assignment.number, report(assignment, epoch, weights_epoch=min(epoch, 2), **more))
    trial = study_of(folder).trials[0]
    assert trial.user_attrs["status"] == "completed"
    assert trial.value == trial.intermediate_values[2]


def test_kept_weights_without_a_value_do_not_get_that_of_another_epoch(tmp_path, space):
    """The rule is by another metric, and chose an epoch in which the objective is not defined."""
    folder, settings, ledger = open_ledger(tmp_path, space)
    assignment = ledger.ask()
    ledger.record(assignment.number, report(assignment, 1, **NO_VALUE))
    assert ledger.record(assignment.number, report(assignment, 2, weights_epoch=1))
    ledger.close()
    ledger = Ledger(folder, space, settings, SHAPE)
    assert ledger.ask().recorded == 2
    assert not ledger.record(assignment.number, report(assignment, 3, weights_epoch=1))
    trial = study_of(folder).trials[0]
    assert trial.intermediate_values == {}
    assert "no value for the weights of epoch 1" in trial.user_attrs["error"]


@pytest.mark.parametrize("any_value", [False, True])
def test_missing_values_are_a_bug_only_if_no_trial_has_one(tmp_path, space, any_value):
    _, _, ledger = open_ledger(tmp_path, space, trials=6)
    if any_value:
        assignment = ledger.ask()
        for epoch in range(1, 4):
            ledger.record(assignment.number, report(assignment, epoch))
    for _ in range(3):
        assert ledger.bug is None
        assignment = ledger.ask()
        for epoch in range(1, 4):
            ledger.record(assignment.number, report(assignment, epoch, **NO_VALUE))
    assert (ledger.bug is None) == any_value
    assert ledger.counts == {"failed": 3}


def test_a_trial_without_a_value_passes_rungs_that_decide_nothing(tmp_path):
    """An early rung of the default sampler is not trusted until its order agrees with that of the next rung."""
    digits = catalog.load("digits", ["epochs=32"])
    space = Space.from_tree({**digits.tree, "search": {}, "start_from": {}}, "early.yaml")
    settings = settings_for(space, trials=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    assert ledger.scheduler.rungs[:2] == [1, 2]
    assignment = ledger.ask()
    assert ledger.record(assignment.number, report(assignment, 1, **NO_VALUE))
    assert not ledger.record(assignment.number, report(assignment, 2, **NO_VALUE))
    assert ledger.counts == {"failed": 1}


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
    assert ledger.shortage is not None
    assert ledger.shortage.every_config
    assert len(study_of(folder).trials) == 2


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
    monkeypatch.setattr(Suggester, "_config_of", lambda self, draft: "not built")
    suggester = Suggester(space, settings, SHAPE, [1])
    shortage = suggester.next(optuna.create_study(), suggester.sampler(0), 0)
    assert shortage == Shortage(0, MAX_REFUSED, {}, expected=0, every_config=False)
    assert asked == ["OneSplitTpe"] * SAMPLER_DRAFTS + ["RandomSampler"] * (MAX_REFUSED - SAMPLER_DRAFTS)


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


@pytest.mark.parametrize("overrides", [[], ["batch_size={choice: [64]}"]], ids=["fixed", "one option"])
def test_repeats_of_a_space_with_nothing_open(tmp_path, overrides):
    """The default sampler has nothing to forecast by; such a search once raised in its ninth trial."""
    space = catalog.load("recipes/digits-baseline", ["epochs=9", *overrides])
    settings = settings_for(space, trials=12, repeats=12)
    folder = make_folder(tmp_path, space, settings)
    assert not run_to_the_end(Ledger(folder, space, settings, SHAPE), crash_after=30)
    ledger = Ledger(folder, space, settings, SHAPE)
    assert run_to_the_end(ledger)
    assert ledger.num_ended == 12
    assert "COMPLETE" in {trial.state.name for trial in study_of(folder).get_trials(deepcopy=False)}
