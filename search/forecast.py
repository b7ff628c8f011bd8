"""A sampler that forecasts where every training would end, and spends each worker's time where that pays most.

One Gaussian process over (hyper-parameters, logarithm of the epoch) is fitted to the objective at the rungs of all trials, less what
epochs alone bring: a trial after its first rung is then no worse than one at its end for having been trained less.
Whenever a worker is free, the config with the highest expected improvement at the last epoch, divided by the cost of the epochs
that are still to be trained (`search.epoch_cost`), is chosen, be it a paused trial (`resume`) or a new one (`sample_relative`); it
trains up to its next rung and is paused there. The first trials are random, and promoted as asynchronous successive halving does;
configs to start from are trained to their end (`search.pausing`).
After Swersky et al., "Freeze-Thaw Bayesian Optimization" (2014), and Wistuba et al., "Supervising the Multi-Fidelity Race
of Hyperparameter Configurations" (2022), with a plain product kernel; improvement by cost after Snoek et al. (2012).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from search.epoch_cost import EpochCost, work_per_image
from search.features import Features
from search.gaussian import GaussianProcess, best_and_some_others, log_expected_improvement
from search.pausing import Pausing

NUM_FIRST_TRIALS = 8  # at random
NUM_ELITES = 5  # trials around which new points are looked for
LARGEST_POSTERIOR = 300  # observations: what a suggestion costs grows with their square
REFINEMENTS = (0.05, 0.02, 0.01)  # how far points are moved in the last steps of the search for the best new one

BLAS = ThreadpoolController()
"""Held to one thread: on some hundred rows more of them wait for the cores that trainings use (4 times as long on 2 cores)."""

Array = np.ndarray


class ForecastSampler(BaseSampler):
    """`rungs` are the epochs at which trials are compared, the last epoch of a training at the end.

    A sampler serves one moment: the study must not change in between calls.
    """

    def __init__(self, seed: int, rungs: Sequence[int]) -> None:
        self._rng = np.random.default_rng(seed)
        self._rungs = list(rungs)
        self._paused: frozenset[int] = frozenset()
        self._forecast: Forecast | None = None
        self._best_new: tuple[Array, float] | None = None

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """The paused trial that promises most, None if there is none or a new one promises more.

        `paused` are all that are paused, `among` those that may be resumed (default: all). While there is little to forecast
        from, `rule` says who goes on. Without `may_start` no new one is thought of. Call it before `sample_relative`, which otherwise takes the paused trials for running ones.
        """
        self._paused = frozenset(paused)
        candidates = self._paused if among is None else frozenset(among)
        trials = study.get_trials(deepcopy=False)
        if not candidates or not any(trial.intermediate_values for trial in trials):
            return None
        if may_start and len(trials) < NUM_FIRST_TRIALS:
            return rule.promoted(candidates)
        forecast = self._forecast_of(study, trials)
        if not may_start:
            return forecast.best_paused(candidates)[0]
        if self._best_new is None:
            self._best_new = self._look_for_new(forecast)
        number, score = forecast.best_paused(candidates)
        return number if score >= self._best_new[1] else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for all parameters that trials have had so far, whichever of them the new trial will ask for."""
        trials = study.get_trials(deepcopy=False)
        if len(trials) < NUM_FIRST_TRIALS or not any(t.intermediate_values for t in trials):
            return {}  # drawn at random: `sample_independent`
        forecast = self._forecast_of(study, trials)
        point = (self._best_new or self._look_for_new(forecast))[0]
        self._best_new = None  # asked again, as after a repeated config, another one is looked for
        return forecast.features.params(point)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return Features.draw(param_distribution, self._rng)

    def _forecast_of(self, study: Study, trials: Sequence[FrozenTrial]) -> Forecast:
        if self._forecast is None or len(self._forecast.trials) != len(trials):
            sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
            with BLAS.limit(limits=1, user_api="blas"):
                self._forecast = Forecast(trials, self._paused, sign, self._rungs, self._rng)
        return self._forecast

    def _look_for_new(self, forecast: Forecast) -> tuple[Array, float]:
        with BLAS.limit(limits=1, user_api="blas"):
            return forecast.best_new(self._rng)


class Forecast:
    """What is expected of trials and of new points at the last epoch, in standard deviations; higher is better."""

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        paused: Collection[int],
        sign: float,
        rungs: Sequence[int],
        rng: np.random.Generator,
    ) -> None:
        self.trials = trials
        self.rungs = rungs
        self.max_epochs = rungs[-1]
        self.features = Features(trials)
        self._columns = self.features.columns(self.features.points)
        rows, epochs, values = self._observations(sign)
        targets = _standardize(np.array(values))
        inputs = self._inputs(self._columns[rows], np.array(epochs))
        if len(targets) > LARGEST_POSTERIOR:
            kept = best_and_some_others(targets, LARGEST_POSTERIOR, rng)
            inputs, targets = inputs[kept], targets[kept]
        groups = np.append(self.features.groups, len(self.features.names))
        self._process = GaussianProcess(inputs, groups, targets, rng)
        self._believe_running(inputs, targets, paused)
        self.mean, self.deviation = self._process.predict(self._at_end(self._columns))
        self.best = self.mean.max()
        self.cost = EpochCost(self._columns, np.array([work_per_image(trial.user_attrs) for trial in trials]))

    def best_paused(self, paused: Collection[int]) -> tuple[int, float]:
        rows = [i for i, trial in enumerate(self.trials) if trial.number in paused]
        still_to_train = np.array([self.max_epochs - max(self.trials[i].intermediate_values, default=0) for i in rows])
        gain = log_expected_improvement(self.mean[rows], self.deviation[rows], self.best)
        scores = gain - np.log(still_to_train / self.max_epochs) - self.cost.of_trials[rows]
        return self.trials[rows[scores.argmax()]].number, float(scores.max())

    def best_new(self, rng: np.random.Generator) -> tuple[Array, float]:
        """(point, score) after a random search that narrows down on the best candidates."""
        elites = self.features.points[np.argsort(-self.mean)[:NUM_ELITES]]
        points = np.concatenate(
            [self.features.spread(400, rng)]
            + [self.features.near(elites, 40, deviation, rng) for deviation in (0.05, 0.15)]
        )
        scores = self._score(points)
        for deviation in REFINEMENTS:
            top = points[np.argsort(-scores)[:8]]
            nearby = self.features.near(top, 15, deviation, rng)
            points, scores = (
                np.concatenate([top, nearby]),
                np.concatenate([np.sort(scores)[::-1][:8], self._score(nearby)]),
            )
        return points[scores.argmax()], float(scores.max())

    def _score(self, points: Array) -> Array:
        columns = self.features.columns(points)
        mean, deviation = self._process.predict(self._at_end(columns))
        return log_expected_improvement(mean, deviation, self.best) - self.cost.of(columns)

    def _observations(self, sign: float) -> tuple[list[int], list[int], list[float]]:
        """(row of the trial, epoch, value less what the epochs alone brought) at each rung and at the last epoch of each trial.

        A failed trial gets the worst value.
        """
        rows: list[int] = []
        epochs: list[int] = []
        values: list[float] = []
        gained = self._gained(sign)
        for row, trial in enumerate(self.trials):
            reached = max(trial.intermediate_values, default=0)
            for epoch in sorted({rung for rung in self.rungs if rung in trial.intermediate_values} | {reached} - {0}):
                rows.append(row)
                epochs.append(epoch)
                values.append(sign * trial.intermediate_values[epoch] - np.interp(epoch, self.rungs, gained))
        worst = min(values)
        for row, trial in enumerate(self.trials):
            if trial.state == TrialState.FAIL:
                rows.append(row)
                epochs.append(self.max_epochs)
                values.append(worst)
        return rows, epochs, values

    def _gained(self, sign: float) -> list[float]:
        """At each rung, what trials have gained since the first one on average; nothing is taken for granted that none has reached."""
        gained = [0.0]
        for before, after in pairwise(self.rungs):
            both = [
                trial.intermediate_values
                for trial in self.trials
                if {before, after} <= trial.intermediate_values.keys()
            ]
            gained.append(gained[-1] + (sign * mean(v[after] - v[before] for v in both) if both else 0.0))
        return gained

    def _believe_running(self, inputs: Array, targets: Array, paused: Collection[int]) -> None:
        """A trial that runs is taken to end as forecast, so that several workers do not look at the same place."""
        running = [
            i for i, trial in enumerate(self.trials) if trial.state == TrialState.RUNNING and trial.number not in paused
        ]
        if running:
            ends = self._at_end(self._columns[running])
            expected = self._process.predict(ends)[0]
            self._process.condition(np.concatenate([inputs, ends]), np.concatenate([targets, expected]))

    def _at_end(self, columns: Array) -> Array:
        return self._inputs(columns, np.full(len(columns), self.max_epochs))

    def _inputs(self, columns: Array, epochs: Array) -> Array:
        return np.column_stack([columns, np.log(epochs) / math.log(max(self.max_epochs, 2))])


def _standardize(values: Array) -> Array:
    """Mean 0, variance 1. How bad the worst ones are is of no interest: they are cut at two ranges of the better half."""
    middle, top = np.median(values), values.max()
    values = np.maximum(values, middle - 2 * (top - middle))
    return (values - values.mean()) / max(float(values.std()), 1e-9)
