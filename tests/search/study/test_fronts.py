"""Several objectives: rungs compare by dominance, samplers see random weightings, winners are the front; a crash changes nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import optuna
import pytest
import yaml
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.helpers.ledgers import RECORDED_DATA, SHAPE, make_folder, outcome, report, study_of
from winnow.search.api.run import load_run
from winnow.search.operations.planning import forecast_search
from winnow.search.samplers.memory_model import Recollection
from winnow.search.samplers.scalarized import evenly_weighted, scalarized
from winnow.search.samplers.suggester import Suggester
from winnow.search.schedulers.fronts import FrontPausing, Standings
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import Settings, settings_for
from winnow.search.study.amendments import RunChanges, amend
from winnow.search.study.completed import completed_trials
from winnow.search.study.ledger import Ledger
from winnow.search.study.space_changes import History, to_run_further
from winnow.search.study.warm_start import warm_start
from winnow.search.winners.winner import best_within
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.fronts import gains, non_dominated
from winnow.spaces.schema import Config
from winnow.spaces.sizes import size_of

OBJECTIVES = "search.objectives=[validation_accuracy, {minimize: multiply_adds}]"
SAMPLERS = ("forecast", "tpe", "random")


def problem(sampler: str = "random", trials: int = 14, *overrides: str):
    space = catalog.load("digits", ["epochs=9", OBJECTIVES, *overrides])
    return space, settings_for(space, trials=trials, sampler=sampler)


def run(ledger: Ledger, crash_after: int | None = None) -> bool:
    """Run one trial after the other; False if the driver "crashed" after so many reports."""
    num_reports = 0
    while (assignment := ledger.ask()) is not None:
        size = size_of(Config.model_validate(assignment.config).model, SHAPE, 10)
        assert size is not None
        for epoch in range(assignment.recorded + 1, 10):
            if num_reports == crash_after:
                return False
            num_reports += 1
            if epoch == 1:
                sizes = {"num_parameters": size.parameters, "multiply_adds": size.multiply_adds, "device": "cpu"}
                ledger.note_size(assignment.number, sizes)
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
    ledger.close()
    return True


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_winners_are_the_front_and_a_crash_changes_nothing(tmp_path, sampler):
    space, settings = problem(sampler)
    folder = make_folder(tmp_path / "whole", space, settings)
    assert run(Ledger(folder, space, settings, SHAPE))
    winners = completed_trials(folder, space, settings).winners
    ended = [trial for trial in study_of(folder).trials if trial.user_attrs["status"] == "completed"]
    inside = [trial for trial in ended if trial.user_attrs["source"] == "sampler"]
    points = gains([(t.value, t.user_attrs["multiply_adds"]) for t in inside], settings.ranked_by)
    expected = {trial.number for trial, kept in zip(inside, non_dominated(points), strict=True) if kept}
    assert {winner.number for winner in winners} == expected
    assert winners[0].value == max(trial.value for trial in inside)
    broken = make_folder(tmp_path / "broken", space, settings)
    assert not run(Ledger(broken, space, settings, SHAPE), crash_after=17)
    assert run(Ledger(broken, space, settings, SHAPE))
    assert outcome(broken) == outcome(folder)


@pytest.mark.parametrize("sampler", ["random", "forecast"])
def test_a_small_network_goes_on_although_larger_ones_are_more_accurate(sampler):
    _, settings = problem(sampler, 14, "search.grace_epochs=3")
    scheduler = make_scheduler(settings, sampler == "forecast")
    for trial, (accuracy, cost) in enumerate([(0.9, 1e6), (0.8, 1e6), (0.7, 1e6), (0.85, 2e6), (0.6, 2e6), (0.5, 1e3)]):
        scheduler.note_figures(trial, {"multiply_adds": cost})
        going_on = scheduler.judge(trial, 3, accuracy)
    if sampler == "random":
        assert going_on
        assert not scheduler.judge(6, 3, 0.55)  # of unknown cost: neither accurate nor known to be small
    else:
        assert scheduler.worth_finishing(range(6)) == {0, 5}
        assert scheduler.promoted(range(6)) == 0


def test_few_trials_at_a_rung_leave_a_place_for_the_most_accurate_one_only():
    """The docs state it: one in three continues, so the second place of the order counts from the sixth trial on."""
    _, settings = problem("random", 14, "search.grace_epochs=3")
    assert settings.reduction_factor == 3
    scheduler = make_scheduler(settings, False)
    for trial, (accuracy, cost) in enumerate([(0.9, 1e6), (0.8, 1e5), (0.7, 1e4), (0.6, 1e3), (0.5, 1e2), (0.4, 1e1)]):
        scheduler.note_figures(trial, {"multiply_adds": cost})
        assert scheduler.judge(trial, 3, accuracy) is (trial in (0, 5))


def test_a_rung_is_trusted_only_if_all_metrics_agree_with_the_next_one():
    objectives = "search.objectives=[validation_accuracy, {minimize: validation_loss}, {minimize: parameters}]"
    space = catalog.load("digits", ["epochs=9", objectives, "search.grace_epochs=3"])
    settings = settings_for(space, trials=14, sampler="forecast")

    def is_trusted(losses: Sequence[float], rung: int, later: int) -> bool:
        scheduler = make_scheduler(settings, True)
        assert isinstance(scheduler, FrontPausing)
        for trial, loss in enumerate(losses):
            figures = {f"validation_loss@{rung}": trial / 10, f"validation_loss@{later}": loss, "num_parameters": 5}
            scheduler.note_figures(trial, figures)
            for epoch in (rung, later):
                scheduler.record(trial, epoch, 0.5 + trial / 10)
        return scheduler.is_trusted(rung)

    assert make_scheduler(settings, True).rungs == [3]
    assert is_trusted([0.1, 0.2, 0.3, 0.4, 0.5], 3, 9)
    assert not is_trusted([0.5, 0.4, 0.3, 0.2, 0.1], 3, 9)
    assert is_trusted([0.4, 0.3, 0.2, 0.1], 3, 9)  # too few trials to measure it


def test_the_order_of_a_rung_is_computed_once_until_it_changes(monkeypatch):
    _, settings = problem("forecast", 14)
    calls = []
    ranking = Settings.ranking
    monkeypatch.setattr(Settings, "ranking", lambda self, values: (calls.append(len(values)), ranking(self, values))[1])
    standings = Standings(settings, [1])
    for trial in range(4):
        standings.note(trial, {"multiply_adds": 10.0 - trial})
    values = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.1}
    assert standings.places(1, values) == standings.places(1, dict(values)) == {2: 0, 3: 1, 1: 2, 0: 3}
    standings.note(0, {"multiply_adds": 10.0})  # as before
    standings.places(1, values)
    assert calls == [4]
    assert standings.places(1, {**values, 3: 0.8})[3] == 0
    standings.note(0, {"multiply_adds": 1.0})
    assert standings.places(1, values)[0] == 1
    assert calls == [4, 4, 4]


def test_the_time_of_an_epoch_is_known_where_a_trial_is_judged(tmp_path, monkeypatch):
    """It is an objective, so without it the trial would be judged by the times of others."""
    space = catalog.load(
        "digits", ["epochs=9", "search.objectives=[validation_accuracy, epoch_seconds]", "search.grace_epochs=2"]
    )
    settings = settings_for(space, trials=6, sampler="random")
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    timed, judged = set(), []
    note, judge = ledger.scheduler.note_figures, ledger.scheduler.judge

    def noted(number, figures):
        timed.update([number] if figures.get("epoch_seconds") else [])
        return note(number, figures)

    def judged_with(number, epoch, value):
        if epoch == 2:
            judged.append(number in timed)
        return judge(number, epoch, value)

    monkeypatch.setattr(ledger.scheduler, "note_figures", noted)
    monkeypatch.setattr(ledger.scheduler, "judge", judged_with)
    while (assignment := ledger.ask()) is not None:
        for epoch in range(1, 10):
            if not ledger.record(assignment.number, report(assignment, epoch, wall_seconds=1.0)):
                break
    ledger.close()
    assert judged == [True] * 6


def test_each_moment_of_a_search_has_its_own_weights_and_no_dominated_trial_is_preferred():
    _, settings = problem()
    study = optuna.create_study(direction="maximize")
    front = [(0.9, 1e6), (0.8, 1e5), (0.6, 1e4), (0.4, 1e3)]
    for accuracy, cost in [*front, (0.75, 1.1e5), (0.3, 1e6)]:
        values = {1: accuracy / 2, 2: accuracy}
        study.add_trial(create_trial(value=accuracy, intermediate_values=values, user_attrs={"multiply_adds": cost}))
    best, shown = set(), []
    for seed in range(20):
        view = scalarized(study, settings.changed(seed=seed))
        values = [trial.value for trial in view.trials]
        shown.append(values)
        best.add(values.index(max(values)))
        assert values[1] > values[4] > values[5]
        assert values[0] > values[5]
        assert all(trial.intermediate_values[2] == trial.value for trial in view.trials)
        assert all(trial.intermediate_values[1] <= trial.value for trial in view.trials)
    assert best <= {0, 1, 2, 3}
    assert len(best) > 2
    assert [trial.value for trial in scalarized(study, settings.changed(seed=19)).trials] == shown[-1]
    assert study.trials[0].value == 0.9


def test_earlier_runs_are_weighted_by_all_objectives_and_not_by_chance():
    """One run ranks configs as the fixed weightings do here, the other one the other way round."""
    space, settings = problem("tpe", 12)
    trials = [
        create_trial(
            state=TrialState.PRUNED, intermediate_values={1: 0.3 + place / 20}, user_attrs={"multiply_adds": 1.5**place}
        )
        for place in range(12)
    ]  # all of them are on the front, so each weighting has another order
    for number, trial in enumerate(trials):
        trial.number = number
    even = evenly_weighted(trials, settings)
    again = evenly_weighted(trials, settings.changed(seed=9))
    assert list(map(last_value, again)) == list(map(last_value, even))
    x = FloatDistribution(0, 1)
    places = {each.number: place / 10 for place, each in enumerate(sorted(even, key=last_value))}
    for trial in trials:
        trial.params, trial.distributions = {"x": places[trial.number] / 2}, {"x": x}
    earlier = {
        name: [
            create_trial(
                state=TrialState.PRUNED, params={"x": at}, distributions={"x": x}, intermediate_values={1: sign * at}
            )
            for at in np.linspace(0, 1, 15)
        ]
        for name, sign in (("agrees", 1), ("disagrees", -1))
    }
    recollection, weights = Recollection(earlier), []
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    for seed in range(8):
        suggester = Suggester(space, settings.changed(seed=seed), SHAPE, [1], 10, recollection)
        view = suggester.readable(study)
        sampler = suggester.sampler(12)
        placeholder = create_trial(state=TrialState.RUNNING)
        sampler.sample_relative(view, placeholder, {})
        weights.append(placeholder.user_attrs["memory"]["weights"])
    assert all(each["agrees"] > 0.2 > 0.05 > each["disagrees"] for each in weights)


def last_value(trial: FrozenTrial) -> float:
    return trial.intermediate_values[max(trial.intermediate_values)]


def test_warm_start_takes_the_costs_along(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    space, settings = problem()
    old = make_folder(tmp_path, space, settings)
    assert run(Ledger(old, space, settings, SHAPE))
    study = {**old.read_study(), "data": {**RECORDED_DATA, "fingerprint": "x"}}
    (old.path / "study.yaml").write_text(json.dumps(study))
    lines = [json.loads(line) for line in warm_start(str(old.path), space, study).lines]
    assert all(line["figures"]["multiply_adds"] > 0 for line in lines)
    other = catalog.load("digits", ["epochs=9", "search.objectives=[validation_accuracy, latency_ms]"])
    with pytest.raises(InputError, match="none of its trials has a latency_ms, which is an objective of this search"):
        warm_start(str(old.path), other, study)


@pytest.mark.parametrize(("processor", "latency"), [("fast", 4.0), ("slow", None)])
def test_a_latency_counts_only_on_the_device_that_it_was_measured_on(tmp_path, processor, latency):
    space = catalog.load("digits", ["epochs=9", "search.objectives=[validation_accuracy, latency_ms]"])
    settings = settings_for(space, trials=4, sampler="random")
    old = make_folder(tmp_path / "old", space, settings)
    old.study.write_text(yaml.safe_dump({**old.read_study(), "hardware": {"processor": "fast"}}))
    ledger = Ledger(old, space, settings, SHAPE)
    while (assignment := ledger.ask()) is not None:
        ledger.note_size(assignment.number, {"latency_ms": 4.0, "multiply_adds": 9, "device": "cpu"})
        for epoch in range(1, 10):
            if not ledger.record(assignment.number, report(assignment, epoch)):
                break
    ledger.close()
    new = make_folder(tmp_path / "new", space, settings)
    study = {**new.read_study(), "hardware": {"processor": processor}}
    new.study.write_text(yaml.safe_dump(study))
    new.warm_start.write_text("".join(f"{line}\n" for line in warm_start(str(old.path), space, study).lines))
    own = create_trial(state=TrialState.RUNNING, user_attrs={"device": "cpu"})
    warm = History(new, space, new.read_study()).shown([])
    assert [trial.user_attrs.get("latency_ms") for trial in warm] == [None] * 4
    assert all(trial.user_attrs["multiply_adds"] == 9 for trial in warm)
    for device, expected in (("cpu", latency), ("NVIDIA H200", None)):
        own.user_attrs["device"] = device
        *warm, _ = History(new, space, new.read_study()).shown([own])
        assert [trial.user_attrs.get("latency_ms") for trial in warm] == [expected] * 4
    limited = catalog.load(
        "digits", ["epochs=9", "search.objectives=[validation_accuracy, latency_ms]", "search.limits.latency_ms=3"]
    )
    own.user_attrs["device"] = "cpu"
    assert len(History(new, limited, new.read_study()).shown([own])) == (1 if latency else 5)


def test_the_objectives_of_a_run_do_not_change(tmp_path):
    space, settings = problem()
    folder = make_folder(tmp_path, space, settings)
    study = folder.read_study()
    assert Settings.from_dict(study["settings"]) == settings
    with pytest.raises(InputError, match=r"search\.objectives: the objectives of a run cannot change"):
        amend(folder, study, space, RunChanges(overrides=("search.objectives=[validation_accuracy, parameters]",)))


def test_an_extended_search_has_one_front_of_all_its_trials(tmp_path):
    """The Python API shows it, and no trial of the front is dominated by one of either part of the search."""
    space, settings = problem(trials=8)
    folder = make_folder(tmp_path, space, settings)
    assert run(Ledger(folder, space, settings, SHAPE))
    amended = amend(folder, folder.read_study(), space, RunChanges(trials=8))
    assert amended.settings.objectives == settings.objectives
    folder.study.write_text(yaml.safe_dump(amended.study))
    assert run(Ledger(folder, amended.space, amended.settings, SHAPE))
    frame = load_run(folder.path).table("front")
    rows = load_run(folder.path).trials
    completed = rows[(rows["status"] == "completed") & (rows["source"] == "sampler")]
    points = gains(completed[["objective", "multiply_adds"]].to_numpy(), settings.ranked_by)
    assert len(rows) == 16
    assert set(frame["trial"]) == set(completed["trial"][non_dominated(points)])
    assert frame["rank"].tolist() == list(range(1, len(frame) + 1))


def test_longer_trainings_begin_with_the_front():
    """In the order of winners: the best by the first objective, then what is farthest from it, and dominated trials last."""
    space, settings = problem("random", 8, "epochs=12")
    rows = [(0.9, 1e6), (0.89, 0.9e6), (0.5, 1e3), (0.88, 2e6), (0.8, 1e5)]
    config = space.config(space.start_from_named()[0][1]).model_dump(mode="json")
    outside = [
        FrozenTrial(
            number,
            TrialState.COMPLETE,
            value,
            None,
            None,
            {},
            {},
            {"config": {**config, "epochs": 9}, "multiply_adds": cost},
            {},
            {9: value},
            number,
        )
        for number, (value, cost) in enumerate(rows)
    ]
    order = [source for source, _ in to_run_further(space, outside, set(), settings)]
    assert order == [f"further:{number}" for number in (0, 2, 4, 1, 3)]
    alone = settings_for(catalog.load("digits", ["epochs=12"]), trials=8, sampler="random")
    order = [source for source, _ in to_run_further(space, outside, set(), alone)]
    assert order == [f"further:{number}" for number in (0, 1, 3, 4, 2)]


def test_the_plan_knows_that_rungs_compare_by_dominance():
    """As many trials continue as with one objective, but none by a tie: the scheduler itself is the reference."""
    _, settings = problem("random", 40)
    forecast = forecast_search(settings)
    assert any("the rungs compare by dominance" in note for note in forecast.notes)
    assert any("the whole front is retrained; how many" in note for note in forecast.notes)
    assert not any("ties" in note for note in forecast.notes)
    first = forecast.rungs[0].epoch
    passed = []
    for seed in range(12):
        rng, scheduler = np.random.default_rng(seed), make_scheduler(settings, False)
        num = 0
        for trial in range(40):
            scheduler.note_figures(trial, {"multiply_adds": float(rng.uniform(1, 9))})
            num += scheduler.judge(trial, first, round(rng.random(), 1))
        passed.append(num)
    second = forecast.rungs[1]
    assert second.low - 2 < np.mean(passed) < second.high + 2
    alone = settings_for(catalog.load("digits", ["epochs=9"]), trials=40, sampler="random")
    assert forecast_search(alone).rungs[1].high > second.high
    assert not any("dominance" in note for note in forecast_search(alone).notes)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ("[validation_accuracy]", "`objectives` needs at least two"),
        ("[parameters, validation_accuracy]", "the first objective must be a metric"),
        (
            "[parameters, latency_ms]",
            r"must be a metric \(.*\); the others may be metrics or costs \(parameters, .*\), but got",
        ),
        ("[validation_accuracy, {maximize: parameters}]", "parameters must be minimized"),
        ("[validation_accuracy, {maximize: validation_loss}]", "validation_loss must be minimized"),
        ("[{minimize: validation_accuracy}, validation_loss]", "validation_accuracy must be maximized"),
        ("[validation_loss, parameters, {minimize: validation_macro_f1}]", "validation_macro_f1 must be maximized"),
        ("[validation_accuracy, {maximize: validation_accuracy}]", "each objective may be listed only once"),
        ("[validation_accuracy, parameters, parameters]", "each objective may be listed only once"),
        ("[validation_accuracy, speed]", "must be one of validation_accuracy"),
    ],
)
def test_bad_objectives_are_refused(objectives, message):
    with pytest.raises(InputError, match=message):
        catalog.load("digits", [f"search.objectives={objectives}"])


def test_one_objective_is_asked_for_where_only_one_makes_sense():
    space = catalog.load("digits", [OBJECTIVES])
    with pytest.raises(InputError, match="--audit: needs a single objective"):
        settings_for(space, audit=0.5)
    with pytest.raises(InputError, match="--objective validation_loss: the objectives of the space start with"):
        settings_for(space, objective="validation_loss")


def test_export_finds_the_best_small_winner(tmp_path):
    space, settings = problem()
    folder = make_folder(tmp_path, space, settings)
    with pytest.raises(InputError, match="no winner was retrained yet"):
        best_within(folder, 100)
    lines = [
        {"rank": rank, "trial": 0, "seed": 1, "baseline": rank is None, "status": "completed"}
        | {"num_parameters": size, "search_value": value}
        for rank, size, value in ((1, 900, 0.9), (2, 100, 0.7), (3, 500, 0.8), (None, 50, 0.99))
    ]
    folder.retrained.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [best_within(folder, limit) for limit in (900, 899, 499)] == [1, 3, 2]
    with pytest.raises(InputError, match="has no such winner; the smallest has 100"):
        best_within(folder, 99)
