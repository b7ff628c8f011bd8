"""What is expected of every training at its last epoch: the Gaussian process behind `winnow.search.samplers.forecast`, and the search for the best new config.

A module of its own because SciPy takes a third of a second to import, and the first trials of a search do without.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from itertools import pairwise
from statistics import mean

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from threadpoolctl import ThreadpoolController

from winnow.search.samplers.encoding import Features
from winnow.search.samplers.epoch_cost import EpochCost, work_per_image
from winnow.search.samplers.gaussian_process import GaussianProcess, best_and_some_others, log_expected_improvement

NUM_ELITES = 5  # trials around which new points are looked for
LARGEST_POSTERIOR = 300  # observations: what a suggestion costs grows with their square
MOST_RUNNING = 100  # trials: of more, those that promise most, since what is looked for lies near them
REFINEMENTS = (0.05, 0.02, 0.01)  # how far points are moved in the last steps of the search for the best new one

BLAS = ThreadpoolController()
"""Held to one thread: on some hundred rows more of them wait for the cores that trainings use (4 times as long on 2 cores)."""

Array = np.ndarray


class Forecast:
    """What is expected of trials and of new points at the last epoch, in standard deviations; higher is better."""

    def __init__(
        self,
        trials: Sequence[FrozenTrial],
        paused: Collection[int],
        sign: float,
        rungs: Sequence[int],
        weigh_cost: bool,
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
        work = [work_per_image(trial.user_attrs) if weigh_cost else math.nan for trial in trials]
        self.cost = EpochCost(self._columns, np.array(work))

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
            promising = np.argsort(-expected, kind="stable")[:MOST_RUNNING]
            ends, expected = ends[promising], expected[promising]
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
