"""Several metrics as objectives: each epoch has a value of each, of the weights kept so far, in rungs, sampler, study and tables."""

from __future__ import annotations

import json
import math
import random
from itertools import pairwise
from typing import Any

import optuna
import pytest
from optuna.trial import create_trial

from tests.helpers.ledgers import RECORDED_DATA, SHAPE, make_folder, outcome, report, study_of
from winnow import reports
from winnow.reports.tables.candidates import candidates
from winnow.search.samplers.scalarized import scalarized
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import Settings, attribute, settings_for
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.amendments import RunChanges, amend
from winnow.search.study.completed import completed_trials
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.search.study.warm_start import warm_start
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.fronts import gains, non_dominated

F1, ERROR = "validation_macro_f1", "validation_calibration_error"
OBJECTIVES = f"search.objectives=[validation_accuracy, {F1}, {{minimize: {ERROR}}}, {{minimize: multiply_adds}}]"
KEPT = "weights=lowest_validation_loss"
SAMPLERS = ("forecast", "tpe", "random")


def problem(sampler: str = "random", trials: int = 14, *overrides: str):
    space = catalog.load("digits", ["epochs=9", OBJECTIVES, KEPT, *overrides])
    return space, settings_for(space, trials=trials, sampler=sampler)


def drawn(assignment: Assignment, epoch: int) -> dict[str, float]:
    """The metrics of an epoch, which neither the config alone nor the epoch decides."""
    made = random.Random(json.dumps([assignment.config, epoch], sort_keys=True))
    accuracy = report(assignment, epoch)["validation_accuracy"]
    names = ("validation_loss", F1, ERROR)
    return {"validation_accuracy": accuracy, **{name: made.uniform(0.1, 0.9) for name in names}}


def reported(assignment: Assignment, epoch: int) -> dict[str, Any]:
    """What a worker reports: `weights_epoch` is the epoch with the lowest loss so far, whose weights are kept."""
    kept = min(range(1, epoch + 1), key=lambda each: drawn(assignment, each)["validation_loss"])
    return report(assignment, epoch, **drawn(assignment, epoch), weights_epoch=kept)


def run(ledger: Ledger, crash_after: int | None = None) -> bool:
    """Run one trial after the other; False if the driver "crashed" after so many reports."""
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        for epoch in range(assignment.recorded + 1, 10):
            if num_reports == crash_after:
                return False
            num_reports += 1
            if epoch == 1:
                size = sum(stage["filters"] for stage in assignment.config["model"].get("stages", [{"filters": 8}]))
                ledger.note_size(assignment.number, {"multiply_adds": 1000 * size, "device": "cpu"})
            if not ledger.record(assignment.number, reported(assignment, epoch)):
                break
    ledger.close()
    return True


def metrics(folder: RunFolder) -> list[dict[str, float]]:
    """The metrics that the study holds of each trial, by attribute."""
    return [{k: v for k, v in trial.user_attrs.items() if "@" in k} for trial in study_of(folder).trials]


def fronts(folder: RunFolder, space, settings: Settings) -> tuple[list[int], list[int]]:
    """The front of the study, and that of the tables."""
    told = reports.read(folder.path)
    of_tables = [row["trial"] for row in candidates(told, told.trial_rows(), [])]
    return [winner.number for winner in completed_trials(folder, space, settings).winners], of_tables


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_front_is_of_the_kept_epochs_and_a_crash_changes_nothing(tmp_path, sampler):
    space, settings = problem(sampler)
    folder = make_folder(tmp_path / "whole", space, settings)
    assert run(Ledger(folder, space, settings, SHAPE))
    ended = [trial for trial in study_of(folder).trials if trial.user_attrs["status"] == "completed"]
    inside = [trial for trial in ended if trial.user_attrs["source"] == "sampler"]
    values = []
    for trial in inside:
        assignment = Assignment(trial.number, 0, trial.user_attrs["config"])
        at_end = drawn(assignment, reported(assignment, 9)["weights_epoch"])
        cost = trial.user_attrs["multiply_adds"]
        assert trial.value == at_end["validation_accuracy"]
        values.append((at_end["validation_accuracy"], at_end[F1], at_end[ERROR], cost))
    kept = non_dominated(gains(values, ["validation_accuracy", F1, ERROR, "multiply_adds"]))
    of_study, of_tables = fronts(folder, space, settings)
    assert set(of_study) == {trial.number for trial, stays in zip(inside, kept, strict=True) if stays}
    assert of_study == of_tables
    broken = make_folder(tmp_path / "broken", space, settings)
    assert not run(Ledger(broken, space, settings, SHAPE), crash_after=17)
    assert run(Ledger(broken, space, settings, SHAPE))
    assert outcome(broken) == outcome(folder)
    assert metrics(broken) == metrics(folder)
    assert fronts(broken, space, settings) == (of_study, of_tables)


def test_the_study_holds_each_metric_of_the_weights_kept_so_far(tmp_path):
    space, settings = problem()
    folder = make_folder(tmp_path, space, settings)
    assert run(Ledger(folder, space, settings, SHAPE))
    num_older = 0
    for trial, held in zip(study_of(folder).trials, metrics(folder), strict=True):
        assignment = Assignment(trial.number, 0, trial.user_attrs["config"])
        expected = {}
        for epoch in trial.intermediate_values:
            kept = reported(assignment, epoch)["weights_epoch"]
            num_older += kept < epoch
            expected |= {attribute(name, epoch): drawn(assignment, kept)[name] for name in (F1, ERROR)}
        assert held == expected
    assert num_older > 10  # epochs after which older weights were kept


@pytest.mark.parametrize("sampler", ["random", "forecast"])
@pytest.mark.parametrize("cut", ["after the line", "after a metric"])
def test_a_crash_between_the_writes_of_an_epoch_changes_nothing(tmp_path, sampler, cut):
    """The line of an epoch is on the disk; of its entries in the study none are, or one metric without the value."""
    space, settings = problem(sampler)
    folder = make_folder(tmp_path / "whole", space, settings)
    assert run(Ledger(folder, space, settings, SHAPE))
    entries = [json.loads(line) for line in folder.journal.read_text().splitlines()]
    values = [place for place, entry in enumerate(entries) if entry["op_code"] == 7]
    assert len(values) > 20
    # Before the value of an epoch that no other entry but its two metrics precedes.
    (place, num_before) = next(
        (value, number)
        for number, (before, value) in enumerate(pairwise(values), start=1)
        if value - before == 3 and number > 12
    )
    end = place - 2 if cut == "after the line" else place - 1
    torn = make_folder(tmp_path / "torn", space, settings)
    torn.journal.write_text("".join(json.dumps(entry) + "\n" for entry in entries[:end]))
    lines = folder.epochs.read_text().splitlines(keepends=True)
    torn.epochs.write_text("".join(lines[: num_before + 1]))
    assert run(Ledger(torn, space, settings, SHAPE))
    assert outcome(torn) == outcome(folder)
    assert metrics(torn) == metrics(folder)


@pytest.mark.parametrize("sampler", ["random", "forecast"])
def test_a_rung_compares_the_metrics_of_its_own_epoch(sampler):
    """Trial 3 has the best macro F1 after epoch 1 and the worst after epoch 3, trial 0 the other way round."""
    objectives = f"search.objectives=[validation_accuracy, {F1}]"
    space = catalog.load("digits", ["epochs=9", objectives, "search.grace_epochs=1"])
    settings = settings_for(space, trials=14, sampler=sampler)
    scheduler = make_scheduler(settings, sampler == "forecast")
    assert {1, 3} <= set(scheduler.rungs)
    going_on = {}
    for epoch, scores in ((1, (0.1, 0.2, 0.3, 0.9)), (3, (0.9, 0.3, 0.2, 0.1))):
        for trial, score in enumerate(scores):
            scheduler.note_figures(trial, {attribute(F1, epoch): score})
            going_on[trial, epoch] = scheduler.judge(trial, epoch, 0.8 - 0.1 * trial)
        if sampler == "forecast":
            best = {0, 3} if epoch == 1 else {0}
            assert {trial for trial in range(4) if scheduler.shares_better([trial])[trial] < len(best) / 4} == best
    if sampler == "random":
        # The last trial is on the front after epoch 1, where it has the best macro F1; after epoch 3 trial 0 dominates it.
        assert scheduler.num_better(3, 1) == 1
        assert scheduler.num_better(0, 1) == 0
        assert scheduler.num_better(0, 3) == 0
        assert scheduler.num_better(3, 3) == 3
        assert not going_on[3, 3]


def test_a_sampler_sees_the_metrics_of_each_epoch():
    space = catalog.load("digits", ["epochs=9", f"search.objectives=[validation_accuracy, {{minimize: {ERROR}}}]"])
    settings = settings_for(space, trials=14, sampler="tpe")
    study = optuna.create_study(direction="maximize")
    # Equal in accuracy: what they differ in is the error, after epoch 1 the other way round than after epoch 2.
    for first, second in ((0.1, 0.4), (0.4, 0.1), (0.2, 0.2)):
        attrs = {attribute(ERROR, 1): first, attribute(ERROR, 2): second}
        study.add_trial(create_trial(value=0.8, intermediate_values={1: 0.8, 2: 0.8}, user_attrs=attrs))
    for seed in range(10):
        one, other, between = scalarized(study, settings.changed(seed=seed)).trials
        assert one.intermediate_values[1] > between.intermediate_values[1] > other.intermediate_values[1]
        assert one.intermediate_values[2] < between.intermediate_values[2] < other.intermediate_values[2]
        assert [trial.value for trial in (one, other, between)] == [
            trial.intermediate_values[2] for trial in (one, other, between)
        ]
    assert study.trials[0].value == 0.8


def test_the_scale_of_a_metric_ignores_failed_trainings():
    """A loss of 1e6 does not make the others equal, as it would if the range of the metric were its scale."""
    space = catalog.load("digits", ["epochs=9", "search.objectives=[validation_accuracy, validation_loss]"])
    settings = settings_for(space, trials=14, sampler="tpe")
    study = optuna.create_study(direction="maximize")
    for accuracy, loss in ((0.8, 0.5), (0.8, 0.7), (0.8, 0.9), (0.1, 1e6)):
        attrs = {attribute("validation_loss", 1): loss}
        study.add_trial(create_trial(value=accuracy, intermediate_values={1: accuracy}, user_attrs=attrs))
    for seed in range(10):
        values = [trial.value for trial in scalarized(study, settings.changed(seed=seed)).trials]
        assert values[0] - values[2] > 1e-3


def test_a_metric_whose_best_value_most_trials_have_does_not_hide_the_cost():
    """Small validation splits and easy images give many ties. The scale of the metric was then nothing, and only tied trials were good."""
    space = catalog.load("digits", ["epochs=9", "search.objectives=[validation_accuracy, parameters]"])
    settings = settings_for(space, trials=14, sampler="tpe")
    study = optuna.create_study(direction="maximize")
    for accuracy, parameters in ((1.0, 1e6), (1.0, 2e6), (1.0, 3e6), (0.99, 1e3)):
        attrs = {"num_parameters": parameters}
        study.add_trial(create_trial(value=accuracy, intermediate_values={1: accuracy}, user_attrs=attrs))
    best = []
    for seed in range(20):
        values = [trial.value for trial in scalarized(study, settings.changed(seed=seed)).trials]
        best.append(values.index(max(values)))
    assert set(best) == {0, 3}


@pytest.mark.parametrize("missing", [F1, ERROR])
def test_a_metric_without_a_value_counts_as_for_the_first_one(tmp_path, missing):
    """An epoch without it is passed where nothing is compared, and the study has nothing of it. At a rung the trial fails."""
    space, settings = problem("random", 14, "search.grace_epochs=3")
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    assignment = ledger.ask()
    assert assignment is not None
    epochs = [{**reported(assignment, epoch), "weights_epoch": epoch} for epoch in (1, 2, 3)]
    assert ledger.record(assignment.number, epochs[0])
    assert ledger.record(assignment.number, {**epochs[1], missing: None})
    assert not ledger.record(assignment.number, {**epochs[2], missing: None})
    ledger.close()
    (trial,) = study_of(folder).trials
    assert trial.user_attrs["status"] == "failed"
    assert f"{missing}" in trial.user_attrs["error"]
    assert "has no value for the weights of epoch 3" in trial.user_attrs["error"]
    assert list(trial.intermediate_values) == [1]


def test_warm_start_takes_the_metrics_of_every_epoch_along(tmp_path, monkeypatch):
    """They are read from the epochs, so the earlier search need not have had them as objectives."""
    monkeypatch.chdir(tmp_path)
    before = catalog.load("digits", ["epochs=9", KEPT])
    old = make_folder(tmp_path, before, settings_for(before, trials=8, sampler="random"))
    assert run(Ledger(old, before, settings_for(before, trials=8, sampler="random"), SHAPE))
    (old.path / "study.yaml").write_text(
        json.dumps({**old.read_study(), "data": {**RECORDED_DATA, "fingerprint": "x"}})
    )

    def start(*overrides: str) -> tuple[str, ...]:
        space = catalog.load("digits", ["epochs=9", KEPT, *overrides])
        settings = settings_for(space, trials=8, sampler="random").to_dict()
        return warm_start(str(old.path), space, {**old.read_study(), "space": space.tree, "settings": settings}).lines

    lines = [json.loads(text) for text in start(OBJECTIVES)]
    assert len(lines) == 8
    for line in lines:
        assignment = Assignment(line["trial"], 0, line["config"])
        kept = {int(epoch): reported(assignment, int(epoch))["weights_epoch"] for epoch in line["values"]}
        expected = {attribute(name, e): drawn(assignment, kept[e])[name] for name in (F1, ERROR) for e in kept}
        assert {key: value for key, value in line["figures"].items() if "@" in key} == expected
        assert line["figures"]["multiply_adds"] > 0
    with pytest.raises(
        InputError, match="none of its trials has a validation_auroc, which is an objective of this search"
    ):
        start("search.objectives=[validation_accuracy, validation_auroc]")
    with pytest.raises(InputError, match="validation own metric: None there, mine:metric here"):
        start("search.objectives=[validation_accuracy, validation_own_metric]", "own_metric=mine:metric")
    space, settings = problem("tpe", 4)
    new = make_folder(tmp_path / "new", space, settings)
    new.warm_start.write_text("\n".join(start(OBJECTIVES)) + "\n")
    ledger = Ledger(new, space, settings, SHAPE)
    seen = ledger._history.for_sampler(ledger._record.study).trials
    assert [trial.user_attrs for trial in seen] == [{"config": line["config"], **line["figures"]} for line in lines]
    assert run(ledger)
    assert len(study_of(new).trials) == 4


def test_the_metrics_of_a_run_do_not_change(tmp_path):
    space, settings = problem()
    folder = make_folder(tmp_path, space, settings)
    study = folder.read_study()
    assert Settings.from_dict(study["settings"]) == settings
    with pytest.raises(InputError, match=r"search\.objectives: the objectives of a run cannot change"):
        amend(folder, study, space, RunChanges(overrides=(f"search.objectives=[validation_accuracy, {F1}]",)))


def test_settings_name_the_objectives_by_their_columns():
    _, settings = problem()
    assert settings.ranked_by == ["validation_accuracy", F1, ERROR, "multiply_adds"]
    assert settings.further_metrics == [F1, ERROR]
    assert settings.costs == ["multiply_adds"]
    assert settings.measured == {"multiply_adds"}
    assert settings.attributes(3) == [f"{F1}@3", f"{ERROR}@3", "multiply_adds"]
    other = catalog.load("digits", [f"search.objectives=[validation_loss, {F1}]"])
    assert (settings_for(other).objective, settings_for(other).direction) == ("validation_loss", "minimize")
    assert other.settings.ranked_by == settings_for(other).ranked_by == ["validation_loss", F1]
    assert settings_for(catalog.load("digits")).ranked_by == ["validation_accuracy"]
    assert settings_for(catalog.load("digits")).attributes(3) == []


def test_settings_of_a_run_with_costs_are_read_as_before():
    recorded = {"objective": "validation_accuracy", "direction": "maximize", "rungs": [1, 3], "max_epochs": 9}
    recorded["objectives"] = ["validation_accuracy", {"minimize": "parameters"}, "latency_ms"]
    settings = Settings.from_dict(recorded)
    assert settings.further == settings.costs == ["num_parameters", "latency_ms"]
    assert settings.attributes(3) == settings.attributes(9) == ["num_parameters", "latency_ms"]
    assert settings.needs_latency
    ranked = settings.ranking([(0.5, 10.0, 1.0), (0.6, 100.0, 2.0), (0.4, 1000.0, math.e)])
    assert ranked[2] == 2
    assert ranked[0] == 1
