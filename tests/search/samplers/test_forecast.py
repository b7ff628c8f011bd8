"""The forecasting sampler: its Gaussian process, its encoding, and what it chooses."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.optimize import check_grad

from winnow.search.samplers import gaussian_process as gaussian
from winnow.search.samplers.draft import RANDOM, Draft
from winnow.search.samplers.encoding import ParameterEncoding
from winnow.search.samplers.forecast import NUM_FIRST_TRIALS, ForecastSampler
from winnow.search.samplers.forecast_model import MOST_RUNNING, Forecast, _cut
from winnow.search.samplers.gaussian_process import GaussianProcess, log_expected_improvement
from winnow.search.schedulers.pausing import Pausing

RUNGS = [3, 9, 27, 50]
RULE = Pausing(3, 3.0, 50, "maximize")

DISTRIBUTIONS: dict[str, BaseDistribution] = {
    "float": FloatDistribution(-1.0, 3.0),
    "log": FloatDistribution(1e-5, 1e-1, log=True),
    "stepped": FloatDistribution(0.0, 1.0, step=0.1),
    "int": IntDistribution(2, 9),
    "int by threes": IntDistribution(1, 10, step=3),
    "log int": IntDistribution(16, 512, log=True),
    "names": CategoricalDistribution(["relu", "elu", "gelu"]),
    "numbers": CategoricalDistribution([64, 128, 256]),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_value_survives_the_way_to_a_point_and_back(name: str) -> None:
    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 10_000))
    def check(seed: int) -> None:
        value = ParameterEncoding.draw(DISTRIBUTIONS[name], np.random.default_rng(seed))
        assert DISTRIBUTIONS[name]._contains(DISTRIBUTIONS[name].to_internal_repr(value))
        encoding = ParameterEncoding([_trial({name: value})])
        back = encoding.params(encoding.round_to_domain(encoding.points)[0])[name]
        assert back == (value if isinstance(value, str | int) else pytest.approx(value))

    check()


def test_all_options_and_steps_are_drawn_about_equally_often() -> None:
    rng = np.random.default_rng(0)
    for name in ("int", "int by threes", "names", "numbers"):
        values, counts = np.unique(
            [ParameterEncoding.draw(DISTRIBUTIONS[name], rng) for _ in range(2000)], return_counts=True
        )
        assert len(values) == {"int": 8, "int by threes": 4, "names": 3, "numbers": 3}[name]
        assert counts.min() > 0.7 * counts.mean()  # six sigma for eight options


def test_parameters_of_a_branch_are_active_where_the_branch_was_chosen() -> None:
    trials = [_trial(_branching(i)) for i in range(6)]
    encoding = ParameterEncoding(trials)
    for point in encoding.sample_uniform(50, np.random.default_rng(0)):
        params = encoding.params(point)
        assert ("sgd.momentum" in params) == (params["optimizer"] == "sgd")
        assert ("adam.beta" in params) == (params["optimizer"] == "adam")


def test_columns_put_ascending_numbers_on_a_line_and_names_at_equal_distances() -> None:
    trials = [
        _trial({"numbers": number, "names": name}) for number, name in [(64, "relu"), (128, "elu"), (256, "gelu")]
    ]
    columns = ParameterEncoding(trials).encode(ParameterEncoding(trials).points)
    assert np.all(np.diff(columns[:, 0]) > 0)
    names = columns[:, 1:]
    distances = ((names[:, None] - names[None]) ** 2).sum(axis=2)
    assert np.allclose(distances, 1 - np.eye(3))


def test_the_gradient_of_the_kernel_fit_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    inputs, targets = rng.random((12, 3)), rng.normal(size=12)
    seen: list[Any] = []

    def spy(loss: Any, start: np.ndarray, **options: Any) -> Any:
        seen.append(
            check_grad(lambda x: loss(x)[0], lambda x: loss(x)[1], start + 0.1) / np.abs(loss(start + 0.1)[1]).max()
        )
        return optuna.trial  # not reached

    class Result:
        x = np.zeros(6)

    monkeypatch.setattr(gaussian, "minimize", lambda *a, **k: (spy(*a, **k), Result)[1])
    gaussian.fit_kernel(gaussian._distances(inputs, np.arange(3)), targets, np.arange(12) % 2, 2)
    assert seen[0] < 1e-4


def test_a_gaussian_process_learns_a_smooth_function_and_knows_where_it_does_not() -> None:
    rng = np.random.default_rng(0)
    inputs = rng.random((60, 2)) * [0.5, 1.0]
    raw = np.sin(6 * inputs[:, 0]) + inputs[:, 1]
    process = GaussianProcess(inputs, np.arange(2), (raw - raw.mean()) / raw.std(), np.zeros(60, int), 1, rng)
    inside = rng.random((40, 2)) * [0.5, 1.0]
    mean, deviation = process.predict(inside)
    truth = (np.sin(6 * inside[:, 0]) + inside[:, 1] - raw.mean()) / raw.std()
    assert np.abs(mean - truth).mean() < 0.1
    assert process.predict(np.array([[1.0, 0.5]]))[1][0] > 5 * deviation.mean()


def test_log_expected_improvement_is_that_of_the_textbook_and_finite_far_away() -> None:
    mean, deviation = np.array([0.3, -1.0]), np.array([0.5, 0.7])
    z = (mean - 0.2) / deviation
    textbook = deviation * (z * gaussian.ndtr(z) + np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi))
    assert np.allclose(log_expected_improvement(mean, deviation, 0.2), np.log(textbook))
    far = log_expected_improvement(np.array([-50.0, -100.0]), np.ones(2), 0.0)
    assert np.isfinite(far).all()
    assert far[0] > far[1]


def test_a_suggestion_is_a_function_of_seed_and_study() -> None:
    study = _study([({"x": i / 12, "log": 10 ** -(1 + i % 4)}, {3: math.sin(i / 4)}) for i in range(12)])
    drafts = [_draft(study, ForecastSampler(seed, RUNGS)) for seed in (7, 7, 8)]
    assert drafts[0] == drafts[1]
    assert drafts[0] != drafts[2]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_suggestions_move_towards_good_values(direction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.search.samplers.forecast.SHARES", (1.0, 1.0))
    sign = 1 if direction == "maximize" else -1
    rng = np.random.default_rng(0)
    rows: list[tuple[dict[str, Any], dict[int, float]]] = []
    for x, power in rng.uniform([0, 1], [1, 5], (24, 2)):
        loss = (x - 0.7) ** 2 + (power - 3) ** 2 / 16
        rows.append(({"x": x, "log": 10**-power}, {3: sign * (0.5 - loss), 50: sign * (0.9 - loss)}))
    study = _study(rows, direction)
    found = [_draft(study, ForecastSampler(seed, RUNGS))["x"] for seed in range(5)]
    assert abs(np.median(found) - 0.7) < 0.1


def test_the_first_trials_are_random_and_need_no_values() -> None:
    study = _study([({"x": 0.5, "log": 1e-3}, {})])
    drafts = [_draft(study, ForecastSampler(seed, RUNGS)) for seed in range(40)]
    assert 0.15 < np.mean([abs(params["x"] - 0.5) for params in drafts]) < 0.35  # 0.25 for uniform ones
    assert min(params["log"] for params in drafts) < 1e-4 < 1e-2 < max(params["log"] for params in drafts)


def test_of_the_paused_trials_the_promising_one_is_resumed() -> None:
    rows = [({"x": x, "log": 1e-3}, {3: 0.5 - (x - 0.5) ** 2}) for x in np.linspace(0, 1, 11)]
    study = _study(rows, state=TrialState.RUNNING)
    resumed = ForecastSampler(0, RUNGS).resume(study, range(11), RULE, may_start=False)
    assert resumed in (4, 5, 6)
    assert ForecastSampler(0, RUNGS).resume(study, range(11), RULE, among=[0, 1], may_start=False) in (0, 1)
    assert ForecastSampler(0, RUNGS).resume(study, [], RULE) is None


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_before_there_is_much_to_forecast_from_the_best_of_a_rung_go_on(
    direction: Literal["maximize", "minimize"],
) -> None:
    values = [0.5, 0.1, 0.9, 0.7, 0.3, 0.6, 0.2][: NUM_FIRST_TRIALS - 1]
    best_first = sorted(range(len(values)), key=lambda i: values[i], reverse=direction == "maximize")
    study = _study([({"x": 0.5, "log": 1e-3}, {3: value}) for value in values], direction, TrialState.RUNNING)
    rule = Pausing(3, 3.0, 50, direction)
    for trial, value in enumerate(values):
        rule.judge(trial, 3, value)
    sampler = ForecastSampler(0, RUNGS)
    assert sampler.resume(study, range(7), rule) == best_first[0]
    assert sampler.resume(study, best_first[1:], rule) == best_first[1]
    assert sampler.resume(study, best_first[2:], rule) is None


def test_who_is_promoted_follows_the_reduction_factor_and_the_last_rungs_first() -> None:
    for factor, promoted in [(2.0, [5, 4, 3]), (3.0, [5, 4]), (4.0, [5])]:
        rule = Pausing(1, factor, 50, "maximize")
        for trial in range(6):
            rule.judge(trial, 1, trial / 6)
        paused = set(range(6))
        seen = []
        while (trial := rule.promoted(paused)) is not None:
            seen.append(trial)
            paused.discard(trial)
        assert seen == promoted
    rule = Pausing(1, 2.0, 50, "maximize")
    for trial in range(6):
        rule.judge(trial, 1, trial / 6)
    for trial in (2, 3):
        rule.judge(trial, 2, trial / 6)
    assert rule.promoted(range(6)) == 3  # at the second rung, although 5 is better at the first
    assert rule.promoted({0, 1, 2, 4, 5}) == 5
    assert rule.promoted({0, 1, 2}) is None


def test_what_epochs_bring_is_no_merit_of_a_config() -> None:
    """All gain 0.4 in training; one that has reached the end is then no better than the others at their first rung."""
    rows = [({"x": x, "log": 1e-3}, {3: 0.2 + 0.1 * x}) for x in np.linspace(0, 1, 9)]
    rows[0] = ({"x": 0.0, "log": 1e-3}, {3: 0.2, 9: 0.4, 27: 0.5, 50: 0.6})
    study = _study(rows, state=TrialState.RUNNING)
    trials = study.get_trials(deepcopy=False)
    forecast = Forecast(trials, range(9), 1.0, RUNGS, False, np.random.default_rng(0))
    assert forecast._gained(1.0) == pytest.approx([0.0, 0.2, 0.3, 0.4])
    assert forecast.mean[0] < forecast.mean[4] < forecast.mean[8]
    assert ForecastSampler(0, RUNGS).resume(study, range(1, 9), RULE, may_start=False) in (7, 8)


def test_a_gain_is_that_of_trials_that_have_reached_both_rungs() -> None:
    study = _study([({"x": 0.1 * k}, {3: 0.1 * k, **({9: 0.1 * k + 0.3} if k > 3 else {})}) for k in range(8)])
    trials = study.get_trials(deepcopy=False)
    for sign in (1.0, -1.0):
        forecast = Forecast(trials, (), sign, RUNGS, False, np.random.default_rng(0))
        assert forecast._gained(sign) == pytest.approx([0.0, sign * 0.3, sign * 0.3, sign * 0.3])


@pytest.mark.parametrize("reached", [1, 2, 3, 10])
@pytest.mark.parametrize("exploded", [1e3, 1e9])
@pytest.mark.parametrize("recovers", [False, True])
def test_a_loss_that_explodes_once_does_not_spoil_the_mean_gain(reached: int, exploded: float, recovers: bool) -> None:
    """Losses fall by 0.2. One of the trials that reach the second rung explodes there, or explodes at the first one and recovers."""
    last = {3: exploded, 9: 1.15} if recovers else {3: 1.35, 9: exploded}
    rows = [({"x": 0.1 * k}, {3: 1.0 + 0.1 * k, **({9: 0.8 + 0.1 * k} if k < reached else {})}) for k in range(10)]
    trials = _study([*rows, ({"x": 0.35}, last)], "minimize").get_trials(deepcopy=False)
    forecast = Forecast(trials, (), -1.0, RUNGS, False, np.random.default_rng(0))
    assert forecast._gained(-1.0) == pytest.approx([0.0, 0.2, 0.2, 0.2])
    if not recovers:  # the model takes it for a bad trial there, which it was
        assert forecast.mean[:10].tolist() == sorted(forecast.mean[:10], reverse=True)


def test_a_training_that_ends_early_is_worth_what_it_ended_with() -> None:
    """Configs of the upper half rise faster, and their own early stopping ends them at 0.62; the others end at 0.80."""
    trials = []
    for i in range(24):
        x = (i + 0.5) / 24
        values = {3: 0.55, 7: 0.62} if x > 0.5 else {3: 0.3, 9: 0.45, 27: 0.7, 50: 0.8}
        trials.append(_trial({"x": x}, values, TrialState.COMPLETE, {RANDOM: True}))
    forecast = Forecast(trials, (), 1.0, RUNGS, False, np.random.default_rng(0))
    assert forecast.mean[:12].min() > forecast.mean[12:].max()
    point, _ = forecast.best_new(np.random.default_rng(0))
    assert forecast.encoding.params(point)["x"] < 0.5


def test_worse_values_differ_also_where_most_are_the_best_one() -> None:
    cut = _cut(np.array([-9.0, 0.5, 0.6, 0.7, *[1.0] * 8]))
    assert np.unique(cut).tolist() == pytest.approx([-0.35, 0.5, 0.6, 0.7, 1.0])
    assert _cut(np.ones(5)).tolist() == [1.0] * 5


def test_a_config_to_start_from_is_trained_to_its_end() -> None:
    rule = Pausing(1, 3.0, 9, "maximize")
    rule.note_start(1)
    assert not rule.judge(0, 1, 0.9)
    assert all(rule.judge(1, epoch, 0.5) for epoch in range(1, 10))
    assert rule.shares_better([1]) == {1: 0.0}  # alone at the second rung
    rule.note_start(2)
    assert not rule.judge(2, 1, math.nan)


def test_a_search_begins_without_scipy() -> None:
    """It takes a third of a second to import, and the first trials are random."""
    code = "import sys, winnow.search.study.ledger; print('scipy' in sys.modules, 'sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_of_many_running_trials_those_that_promise_most_are_believed() -> None:
    study = _study([({"x": x, "log": 1e-3}, {50: x}) for x in np.linspace(0, 1, 9)])
    for x in np.linspace(0, 1, MOST_RUNNING + 20):
        study.add_trial(_trial({"x": float(x), "log": 1e-3}))
    forecast = Forecast(study.get_trials(deepcopy=False), (), 1.0, RUNGS, False, np.random.default_rng(0))
    believed = forecast._process.inputs[9:, 0]
    assert len(believed) == MOST_RUNNING
    assert believed.min() > 0.1
    assert believed.max() > 0.95


def test_failed_trials_count_as_the_worst() -> None:
    study = _study([({"x": x, "log": 1e-3}, {3: 0.5}) for x in np.linspace(0, 0.5, 6)])
    for x in np.linspace(0.6, 1, 6):
        study.add_trial(_trial({"x": float(x), "log": 1e-3}, state=TrialState.FAIL))
    study.add_trial(_trial({"x": 0.2, "log": 1e-3}, {3: 0.1}, TrialState.PRUNED))
    found = [_draft(study, ForecastSampler(seed, RUNGS))["x"] for seed in range(5)]
    assert np.median(found) < 0.6


def test_nothing_is_forecast_while_no_trial_has_reached_a_rung() -> None:
    study = _study([({"x": 0.1 * k, "log": 1e-3}, {2: 0.1 * k}) for k in range(10)], state=TrialState.RUNNING)
    draft = Draft(study, ForecastSampler(0, RUNGS), 10)
    assert draft.to_trial({}).user_attrs == {RANDOM: True}


@pytest.mark.parametrize("values", [[0.5] * 12, [0.1 * (k % 2) for k in range(12)]])
def test_a_forecast_of_equal_values_or_configs_has_no_skill(values: list[float]) -> None:
    study = optuna.create_study(direction="maximize")
    for value in values:
        study.add_trial(_trial({"x": 0.5, "log": 1e-3}, {3: value}, TrialState.PRUNED, {RANDOM: True}))
    forecast = Forecast(study.get_trials(deepcopy=False), (), 1.0, RUNGS, False, np.random.default_rng(0))
    assert forecast.skill <= 0


def test_each_rung_has_a_noise_of_its_own() -> None:
    rng = np.random.default_rng(0)
    inputs = np.tile(rng.random((40, 1)), (2, 1))
    truth = np.sin(6 * inputs[:, 0])
    sources = np.repeat([0, 1], 40)
    targets = truth + np.where(sources == 0, rng.normal(0, 1, 80), 0)
    process = GaussianProcess(inputs, np.arange(1), targets / targets.std(), sources, 2, rng)
    assert process._noises[0] > 10 * process._noises[1]
    assert np.abs(process.predict(inputs)[0] * targets.std() - truth).mean() < 0.1


@pytest.mark.parametrize("learnable", [True, False])
def test_the_share_of_the_forecast_grows_with_its_skill(learnable: bool) -> None:
    """With values that are noise successive halving decides nearly always, with a smooth function the forecast."""
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize")
    for x in rng.random(30):
        value = (x - 0.7) ** 2 if learnable else rng.random()
        study.add_trial(_trial({"x": x, "log": 1e-3}, {3: value}, TrialState.PRUNED, {RANDOM: True}))
    drafts = [Draft(study, ForecastSampler(seed, RUNGS), 30) for seed in range(20)]
    at_random = [draft.to_trial({}).user_attrs.get(RANDOM, False) for draft in drafts]
    assert np.mean(at_random) < 0.3 if learnable else np.mean(at_random) > 0.7


def test_successive_halving_promotes_among_configs_drawn_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs of the forecast, which lie close together, do not crowd random ones out of the best third."""
    monkeypatch.setattr("winnow.search.samplers.forecast.SHARES", (0.0, 0.0))
    study, rule = optuna.create_study(direction="maximize"), Pausing(3, 3.0, 50, "maximize")
    for number in range(20):
        value = 0.5 - 0.01 * number
        study.add_trial(_trial({"x": 0.5, "log": 1e-3}, {3: value}, TrialState.RUNNING, {RANDOM: number >= 10}))
        rule.judge(number, 3, value)
    assert ForecastSampler(0, RUNGS).resume(study, range(20), rule) == 10


def test_a_search_that_may_start_no_more_trials_finishes_some_and_ends() -> None:
    rule = Pausing(1, 3.0, 9, "maximize")
    epochs = dict.fromkeys(range(12), 0)
    paused: set[int] = set()
    for _ in range(1000):
        running = next((trial for trial, epoch in epochs.items() if epoch == 0), None)
        if running is None:
            worth = rule.worth_finishing(paused)
            if not worth:
                break
            running = max(worth)  # the best, as the forecast would have it
            paused.discard(running)
        while epochs[running] < 9:
            epochs[running] += 1
            if not rule.judge(running, epochs[running], running / 12):
                paused.add(running)
                break
    assert epochs[11] == 9
    assert sorted(epochs.values()) == [1] * 8 + [3] * 3 + [9]


def test_as_many_are_finished_as_winners_are_wanted() -> None:
    """Of twelve at the first rung four would be promoted; with five wanted, the next best comes along."""
    rule = Pausing(1, 3.0, 9, "maximize")
    for trial in range(12):
        rule.judge(trial, 1, trial / 12)
    assert rule.worth_finishing(range(12)) == {8, 9, 10, 11}
    assert rule.worth_finishing(range(12), at_least=5) == {7, 8, 9, 10, 11}
    assert rule.worth_finishing([3, 5], at_least=1) == {5}


def test_a_value_that_is_not_finite_is_no_pause() -> None:
    rule = Pausing(1, 3.0, 9, "maximize")
    assert not rule.judge(0, 2, math.nan)
    assert not rule.judge(0, 1, math.inf)
    assert rule.table()[1] == {}


def _branching(i: int) -> dict[str, Any]:
    return {"optimizer": "sgd", "sgd.momentum": 0.1 * i} if i % 2 else {"optimizer": "adam", "adam.beta": 0.1 * i}


def _trial(
    params: dict[str, Any],
    values: dict[int, float] | None = None,
    state: TrialState = TrialState.RUNNING,
    attrs: dict[str, Any] | None = None,
) -> FrozenTrial:
    known = {**DISTRIBUTIONS, "x": FloatDistribution(0, 1), "optimizer": CategoricalDistribution(["sgd", "adam"])}
    distributions = {name: known.get(name, FloatDistribution(0, 1)) for name in params}
    value = None if state != TrialState.COMPLETE else list((values or {}).values())[-1]
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions=distributions,
        intermediate_values=values or {},
        user_attrs=attrs or {},
    )


def _study(
    rows: list[tuple[dict[str, Any], dict[int, float]]],
    direction: str = "maximize",
    state: TrialState = TrialState.PRUNED,
) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for params, values in rows:
        study.add_trial(_trial(params, values, state))
    return study


def _draft(study: optuna.Study, sampler: ForecastSampler) -> dict[str, Any]:
    draft = Draft(study, sampler, len(study.trials))
    draft.suggest_float("x", 0, 1)
    draft.suggest_float("log", 1e-5, 1e-1, log=True)
    return draft.params
