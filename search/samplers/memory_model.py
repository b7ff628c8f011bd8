"""Models earlier runs and says which configs to try here because of them.

Every earlier run is a Gaussian process over its parameters that predicts how a config ranks among its trials. A run weighs as much as
its process orders the trials of this search rightly, compared with the others and with a process over this search alone, after Feurer
et al., "Practical Transfer Learning for Bayesian Optimization" (2018). A config is worth what it promises beyond the best one tried
here, by each run and by the weight of that run, after Wistuba et al., "Scalable Gaussian process-based transfer surrogates for
hyperparameter optimization" (2018). While nothing is known here all runs weigh the same, and this is a greedy portfolio.

A module of its own because SciPy takes a third of a second to import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState, create_trial
from scipy.special import ndtri

from winnow.search.samplers.encoding import Features, value_at
from winnow.search.samplers.gaussian_process import GaussianProcess

FEWEST_COMPARED = 3
"""Trials of this search with an epoch before they decide about weights."""
MOST_COMPARED = 60
NUM_SAMPLES = 200  # bootstrap samples of the trials of this search
NUM_ELITES = 10  # of each run, around which candidates are drawn
NUM_SPREAD = 300  # candidates anywhere in the space
LEAST_GAIN = 0.02
"""Expected gain, in standard deviations of a run's scores, below which the earlier runs have nothing more to propose."""

Array = np.ndarray


class Recollection:
    """The processes of earlier runs and the candidates that they propose. Made once for a search.

    Args:
        runs: The trials of each earlier run by its name, with the parameters of this space that it knows. Higher values are better.
    """

    def __init__(self, runs: Mapping[str, Sequence[FrozenTrial]]) -> None:
        self.names = list(runs)
        self.features = Features([trial for run in runs.values() for trial in run])
        columns = self.features.columns(self.features.points)
        ends = np.cumsum([len(run) for run in runs.values()])
        rng = np.random.default_rng(0)
        self._processes, elites = [], []
        for run, end in zip(runs.values(), ends, strict=True):
            part = slice(end - len(run), end)
            scores = win_scores(run)
            zeros = np.zeros(len(scores), int)
            self._processes.append(GaussianProcess(columns[part], self.features.groups, scores, zeros, 1, rng))
            elites.append(self.features.points[part][np.argsort(-scores, kind="stable")[:NUM_ELITES]])
        best = np.concatenate(elites)
        near = [self.features.near(best, 3, deviation, rng) for deviation in (0.05, 0.15)]
        self.candidates = np.concatenate([best, *near, self.features.spread(NUM_SPREAD, rng)])
        """[candidates, parameters]."""

    @cached_property
    def _expected(self) -> Array:
        """The score that each run expects of each candidate, [runs, candidates]."""
        return self._scores_of(self.candidates)

    def points_of(self, trials: Sequence[FrozenTrial]) -> Array:
        """The points of trials of this search, [trials, parameters]."""
        whole = {name: value_at(each, 0.5) for name, each in self.features.distributions.items()}
        return Features([self._known_part(whole), *(self._known_part(trial.params) for trial in trials)]).points[1:]

    def weights(self, trials: Sequence[FrozenTrial], sign: float, rng: np.random.Generator) -> Array:
        """Weigh the earlier runs by how they order the trials of this search.

        Args:
            trials: The trials of this search.
            sign: 1 if higher values are better, else -1.
            rng: Draws samples of the trials.

        Returns:
            The weight of each run, [runs]. What is missing to 1 is the weight of this search itself.
        """
        seen = [trial for trial in trials if trial.intermediate_values][-MOST_COMPARED:]
        num_runs = len(self._processes)
        if len(seen) < FEWEST_COMPARED:
            return np.full(num_runs, 1 / num_runs)
        points = self.points_of(seen)
        order = _order(seen, sign)
        expected = [*self._scores_of(points), self._own_expectation(points, win_scores(seen, sign), rng)]
        wrong = np.stack([_disagreement(order, each) for each in expected])
        counts = rng.multinomial(len(seen), np.full(len(seen), 1 / len(seen)), NUM_SAMPLES).astype(float)
        pairs = np.einsum("si,ij,sj->s", counts, np.abs(order), counts)
        counted = np.einsum("si,mij,sj->ms", counts, wrong, counts, optimize=True)
        loss = (counted / np.maximum(pairs, 1e-9))[:, pairs > 0]
        if not loss.shape[1]:
            return np.full(num_runs, 1 / num_runs)
        # Many useless runs would together outweigh a good one by chance.
        loss[:-1][np.median(loss[:-1], axis=1) > np.quantile(loss[-1], 0.95)] = np.inf
        best = loss == loss.min(axis=0)
        return (best / best.sum(axis=0)).mean(axis=1)[:-1]

    def gains(self, trials: Sequence[FrozenTrial], weights: Array) -> Array:
        """The gain that each run promises of each candidate over the best trial so far, by its weight: [runs, candidates]."""
        best = self._scores_of(self.points_of(trials)).max(axis=1) if trials else np.full(len(self._processes), -np.inf)
        best = np.maximum(best, 0.0)  # a typical trial of a run is not worth a suggestion
        return weights[:, None] * np.maximum(self._expected - best[:, None], 0.0)

    def _own_expectation(self, points: Array, scores: Array, rng: np.random.Generator) -> Array:
        """What this search expects of each of its trials from the others."""
        columns, zeros = self.features.columns(points), np.zeros(len(points), int)
        process = GaussianProcess(columns, self.features.groups, scores, zeros, 1, rng)
        return process.leave_one_out(columns, scores, zeros)

    def _scores_of(self, points: Array) -> Array:
        columns = self.features.columns(points)
        return np.stack([process.predict(columns)[0] for process in self._processes])

    def _known_part(self, params: Mapping[str, Any]) -> FrozenTrial:
        known = {name: params[name] for name in self.features.distributions if name in params}
        distributions = {name: self.features.distributions[name] for name in known}
        return create_trial(state=TrialState.RUNNING, params=known, distributions=distributions)


def win_scores(trials: Sequence[FrozenTrial], sign: float = 1.0) -> Array:
    """Rank trials that were trained for different times: normal scores of mean 0 and variance 1, higher is better.

    Two trials are compared at the last epoch that both have reached. A trial without a value loses.
    """
    order = _order(trials, sign)
    wins = ((order > 0).sum(axis=1) + 0.5 * (order == 0).sum(axis=1)) / len(trials)
    scores = ndtri(np.clip(wins, 0.5 / len(trials), 1 - 0.5 / len(trials)))
    return (scores - scores.mean()) / max(float(scores.std()), 1e-9)


def _order(trials: Sequence[FrozenTrial], sign: float) -> Array:
    """[trials, trials]: 1 where the first is better at the last epoch that both have reached, -1 where it is worse, else 0."""
    order = np.zeros((len(trials), len(trials)))
    for i, trial in enumerate(trials):
        for j in range(i):
            order[i, j] = _compared(trial.intermediate_values, trials[j].intermediate_values, sign)
            order[j, i] = -order[i, j]
    return order


def _compared(values: Mapping[int, float], others: Mapping[int, float], sign: float) -> float:
    if not values or not others:
        return float(bool(values)) - float(bool(others))
    epoch = min(max(values), max(others))
    value, other = values.get(epoch, -sign * math.inf), others.get(epoch, -sign * math.inf)
    return sign * (float(value > other) - float(value < other))


def _disagreement(order: Array, expected: Array) -> Array:
    """[trials, trials]: 1 where two trials come in the other order than expected, one half where none is expected."""
    return np.abs(order) * (1 - order * np.sign(expected[:, None] - expected[None, :])) / 2
