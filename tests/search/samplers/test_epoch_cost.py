"""What an epoch of a config is taken to cost, and what the forecast makes of it."""

from __future__ import annotations

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from winnow.search.samplers.epoch_cost import CPU, EpochCost, work_per_image
from winnow.search.samplers.forecast import NUM_FIRST_TRIALS, ForecastSampler
from winnow.search.samplers.suggester import Suggester
from winnow.search.schedulers.pausing import Pausing
from winnow.search.settings import settings_for
from winnow.spaces import catalog

RUNGS = [3, 9, 27, 50]
RULE = Pausing(3, 3.0, 50, "maximize")
RANDOM = np.random.default_rng(0)


def test_nothing_known_costs_nothing() -> None:
    cost = EpochCost(RANDOM.random((4, 3)), np.full(4, np.nan))
    assert not cost.of_trials.any()
    assert not cost.of(RANDOM.random((5, 3))).any()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_what_multiplies_is_learned_and_known_costs_are_kept(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, slopes = rng.random((60, 4)), rng.normal(0, 2, 4)
    logs = columns @ slopes
    work = np.where(rng.random(60) < 0.7, np.exp(logs + 15), np.nan)
    known = np.isfinite(work)
    cost = EpochCost(columns, work)
    assert cost.of_trials[known] == pytest.approx(logs[known] - logs[known].mean())
    assert np.corrcoef(cost.of_trials[~known], logs[~known])[0, 1] > 0.9


def test_no_new_point_costs_more_or_less_than_a_trial_did() -> None:
    columns = np.linspace(0.3, 0.7, 10)[:, None]
    cost = EpochCost(columns, np.exp(20 * columns[:, 0]))
    assert cost.of(np.array([[-3.0], [4.0]])) == pytest.approx([cost.of_trials.min(), cost.of_trials.max()])


def test_small_networks_cost_their_steps() -> None:
    small, smaller = ({"multiply_adds": size, "config": {"batch_size": 64}} for size in (2e4, 1e3))
    assert work_per_image(small) / work_per_image(smaller) < 1.1
    many_steps = {**small, "config": {"batch_size": 8}}
    assert work_per_image(many_steps) - work_per_image(small) == pytest.approx(CPU.per_step * (1 / 8 - 1 / 64))
    assert work_per_image({**small, "device": "NVIDIA H200"}) > 10 * work_per_image({**small, "device": "cpu"})
    assert np.isnan(work_per_image({"config": {"batch_size": 8}}))


def _study(multiply_adds: list[float]) -> optuna.Study:
    """Trials that all did the same, one for each cost, along x."""
    study = optuna.create_study(direction="maximize")
    for number, cost in enumerate(multiply_adds):
        study.add_trial(
            create_trial(
                params={"x": (number + 0.5) / len(multiply_adds)},
                distributions={"x": FloatDistribution(0.0, 1.0)},
                intermediate_values={3: 0.5},
                user_attrs={"multiply_adds": cost, "config": {"batch_size": 64}},
                state=TrialState.RUNNING,
            )
        )
    return study


@pytest.mark.parametrize("cheap", [0, 7])
def test_of_equals_the_cheaper_one_goes_on(cheap: int) -> None:
    costs = [1e9] * NUM_FIRST_TRIALS
    costs[cheap] = 1e6
    sampler = ForecastSampler(0, RUNGS, weigh_cost=True)
    assert sampler.resume(_study(costs), range(NUM_FIRST_TRIALS), RULE, may_start=False) == cheap


@pytest.mark.parametrize("time_budget", ["1h", None])
def test_cost_is_of_account_in_a_search_with_a_time_budget_only(time_budget: str | None) -> None:
    space = catalog.load("digits")
    suggester = Suggester(space, settings_for(space, sampler="forecast", time_budget=time_budget), (1, 8, 8), RUNGS)
    chosen = set()
    for costs in ([1e9, 1e6], [1e6, 1e9]):
        sampler = suggester.sampler(2)
        assert isinstance(sampler, ForecastSampler)
        chosen.add(sampler.resume(_study(costs), range(2), RULE, may_start=False))
    assert len(chosen) == (2 if time_budget else 1)


@pytest.mark.parametrize("ascending", [True, False])
def test_where_nothing_else_speaks_for_it_new_configs_are_cheap_ones(
    ascending: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.search.samplers.forecast.SHARES", (1.0, 1.0))
    costs = [10 ** (6 + 3 * k / 11) for k in range(12)]
    study = _study(costs if ascending else costs[::-1])
    found = []
    for seed in range(9):
        sampler = ForecastSampler(seed, RUNGS, weigh_cost=True)
        sampler.resume(study, range(12), RULE)
        found.append(sampler.sample_relative(study, study.trials[0], {})["x"])
    assert np.median(found) < 0.3 if ascending else np.median(found) > 0.7
