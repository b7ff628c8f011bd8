"""Models earlier runs and proposes configs that are promising according to them.

Every earlier run is modelled by a Gaussian process over its parameters, which predicts how a config ranks among the trials of that
run. The weight of a run depends on how well its process orders the trials of this search, compared with the other runs and with a
process over this search alone, after Feurer et al., "Practical Transfer Learning for Bayesian Optimization" (2018). The value of a
config is the gain over the best config tried here that each run predicts, summed over the runs with their weights, after Wistuba et
al., "Scalable Gaussian process-based transfer surrogates for hyperparameter optimization" (2018). While this search has no results,
all runs have equal weights, and the result is a greedy portfolio. When no run predicts a further gain, the runs and this search are
combined into one model by their weights, and the config with the highest expected improvement comes next.

This is a separate module because importing SciPy takes a third of a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri

from winnow.search.samplers.encoding import ParameterEncoding
from winnow.search.samplers.gaussian_process import GaussianProcess, log_expected_improvement
from winnow.spaces.epoch_figures import continued

FEWEST_COMPARED = 3
"""Number of trials of this search that must have an epoch before they decide the weights."""
MOST_COMPARED = 60
NUM_SAMPLES = 200  # bootstrap samples of the trials of this search
NUM_ELITES = 10  # best trials of each run, around which candidates are drawn
NUM_BEST_HERE = 3  # best trials of this search, around which further candidates are drawn
MOST_PROPOSED = 10
"""Largest number of proposals for one trial. If all are rejected, for example because of a size limit, the other sampler suggests."""
NUM_SPREAD = 300  # candidates anywhere in the space
MORE_SPREAD = 3000  # points that are drawn in addition if the limits refuse some of these
LEAST_GAIN = 0.02
"""Predicted gain, in standard deviations of a run's scores, below which the portfolio is complete."""

Array = np.ndarray


@dataclass(frozen=True)
class Proposals:
    """The proposals of the earlier runs at one point of a search.

    Attributes:
        weights: The weight of each run, [runs].
        points: The proposals from best to worst, [proposals, parameters].
        shares: The share of each run in the predicted gain of a proposal, [proposals, runs].
    """

    weights: Array
    points: Array
    shares: Array


class Recollection:
    """The models of earlier runs, and the candidates that they propose. It is created once per search.

    Args:
        runs: The trials of each earlier run, by its name, with the parameters that the run shares with this space. Higher values are
            better.
        allows: Whether a config with these parameters may be within the limits of this search; only such configs are proposed.
            Default: there are no limits.
    """

    def __init__(
        self,
        runs: Mapping[str, Sequence[FrozenTrial]],
        allows: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> None:
        self._allows = allows
        self.names = list(runs)
        self.encoding = ParameterEncoding([trial for run in runs.values() for trial in run])
        columns = self.encoding.encode(self.encoding.points)
        ends = np.cumsum([len(run) for run in runs.values()])
        rng = np.random.default_rng(0)
        self._processes, elites = [], []
        self._tried = self.encoding.points[:0]
        self._tried_scores = np.empty((len(self.names), 0))
        for run, end in zip(runs.values(), ends, strict=True):
            part = slice(end - len(run), end)
            scores = win_scores(run)
            zeros = np.zeros(len(scores), int)
            self._processes.append(GaussianProcess(columns[part], self.encoding.groups, scores, zeros, 1, rng))
            best_first = self.encoding.points[part][np.argsort(-scores, kind="stable")]
            elites.append(self._allowed(best_first)[:NUM_ELITES])
        best = np.concatenate(elites)
        near = [self._allowed(self.encoding.perturb(best, 3, deviation, rng)) for deviation in (0.05, 0.15)]
        spread = self._allowed(self.encoding.sample_uniform(NUM_SPREAD, rng))
        if len(spread) < NUM_SPREAD:
            more = self.encoding.sample_uniform(MORE_SPREAD, rng)
            spread = np.concatenate([spread, self._allowed(more)])[:NUM_SPREAD]
        self.candidates = np.concatenate([best, *near, spread])
        """[candidates, parameters], those that the limits allow."""

    def _allowed(self, points: Array) -> Array:
        """Return those of the points [n, parameters] that the limits allow, in the same order."""
        if self._allows is None:
            return points
        return points[[self._allows(self.encoding.params(point)) for point in points]]

    @cached_property
    def _expected(self) -> Array:
        """The score that each run predicts for each candidate, [runs, candidates]."""
        return self._scores_of(self.candidates)

    def propose(
        self,
        trials: Sequence[FrozenTrial],
        sign: float,
        rng: np.random.Generator,
        judged: Callable[[int], Sequence[FrozenTrial]] | None = None,
    ) -> Proposals:
        """Propose the configs with the highest predicted gain at this point of the search.

        Args:
            trials: The trials of this search.
            sign: 1 if higher values are better, else -1.
            rng: Draws samples of the trials, and points around the best of them.
            judged: Returns the newest trials of this search that have an epoch, at most so many, with the values by which the earlier
                runs are weighted. Default: those of `trials`.

        Returns:
            At most `MOST_PROPOSED` proposals; none if no run predicts a gain and too few trials
            have an epoch.
        """
        current = ThisSearch(self.encoding, trials, sign, rng)
        weighing = current
        if judged is not None and current.process is not None:
            weighing = ThisSearch(self.encoding, judged(MOST_COMPARED), sign, rng)
        weights = self.weights(weighing, rng)
        gains = self._gains(current.points, weights)
        total = gains.sum(axis=0)
        if total.max(initial=0.0) > LEAST_GAIN * weights.sum():
            order = np.argsort(-total, kind="stable")[:MOST_PROPOSED]
            return Proposals(weights, self.candidates[order], (gains[:, order] / np.maximum(total[order], 1e-12)).T)
        if current.process is None:
            return Proposals(weights, self.candidates[:0], np.empty((0, len(weights))))
        near = self._allowed(self.encoding.perturb(current.best(NUM_BEST_HERE), 20, 0.05, rng))
        points = np.concatenate([self.candidates, near])
        if not len(points):
            return Proposals(weights, points, np.empty((0, len(weights))))
        order = np.argsort(-self._improvement(current, weights, points), kind="stable")[:MOST_PROPOSED]
        return Proposals(weights, points[order], np.tile(weights, (len(order), 1)))

    def weights(self, current: ThisSearch, rng: np.random.Generator) -> Array:
        """Weight the earlier runs by how well they order the trials of this search.

        Args:
            current: The trials of this search. While too few have an epoch, all runs have equal
                weights.
            rng: Draws bootstrap samples of the trials.

        Returns:
            The weight of each run, [runs]. The difference of their sum from 1 is the weight of
            this search itself.
        """
        alike = np.full(len(self.names), 1 / len(self.names))
        if current.process is None:
            return alike
        num = len(current.seen)
        own = current.process.leave_one_out(current.process.inputs, current.process.targets, np.zeros(num, int))
        order = _order(current.seen, current.sign)
        wrong = np.stack([_disagreement(order, each) for each in [*self._scores_of(current.seen_points), own]])
        counts = rng.multinomial(num, np.full(num, 1 / num), NUM_SAMPLES).astype(float)
        pairs = np.einsum("si,ij,sj->s", counts, np.abs(order), counts, optimize=True)
        counted = np.einsum("si,mij,sj->ms", counts, wrong, counts, optimize=True)
        loss = (counted / np.maximum(pairs, 1e-9))[:, pairs > 0]
        if not loss.shape[1]:
            return alike
        # Without this, many useless runs together could outweigh a good one by chance.
        loss[:-1][np.median(loss[:-1], axis=1) > np.quantile(loss[-1], 0.95)] = np.inf
        best = loss == loss.min(axis=0)
        return (best / best.sum(axis=0)).mean(axis=1)[:-1]

    def _gains(self, tried: Array, weights: Array) -> Array:
        """Return the gain over the best point tried here that each run predicts for each candidate.

        Args:
            tried: The points of this search, [trials, parameters].
            weights: The weight of each run, [runs].

        Returns:
            Gains times the weight of the run, at least 0, [runs, candidates]. A gain is in standard
            deviations of the run's scores.
        """
        # A failed or infeasible trial counts as tried too; otherwise its neighbours would be suggested again and again.
        best = self._scores_of_tried(tried).max(
            axis=1, initial=0.0
        )  # 0: a typical trial of a run is not worth suggesting
        return weights[:, None] * np.maximum(self._expected - best[:, None], 0.0)

    def _improvement(self, current: ThisSearch, weights: Array, points: Array) -> Array:
        """Return the logarithm of the expected improvement of each point.

        The model is the average of all runs and this search, with their weights.
        """
        assert current.process is not None
        mean, deviation = current.process.predict(self.encoding.encode(points))
        at_trials = current.process.predict(self.encoding.encode(current.points))[0]
        own = 1 - weights.sum()
        mean = own * mean + weights @ self._scores_of(points)
        best = (own * at_trials + weights @ self._scores_of_tried(current.points)).max()
        return log_expected_improvement(mean, deviation, best)

    def _scores_of_tried(self, points: Array) -> Array:
        """Return the scores that the runs predict for the trials of this search, [runs, trials]. Only those of new trials are computed."""
        num_known = len(self._tried)
        if not np.array_equal(points[:num_known], self._tried, equal_nan=True):
            num_known, self._tried_scores = 0, np.empty((len(self.names), 0))
        if len(points) > num_known:
            new = self._scores_of(points[num_known:])
            self._tried_scores = np.concatenate([self._tried_scores, new], axis=1)
        self._tried = points
        return self._tried_scores

    def _scores_of(self, points: Array) -> Array:
        columns = self.encoding.encode(points)
        return np.stack([process.predict(columns)[0] for process in self._processes])


class ThisSearch:
    """The trials of this search so far.

    Args:
        encoding: The parameters that the earlier runs know.
        trials: The trials of this search.
        sign: 1 if higher values are better, else -1.
        rng: Draws the trials to which a process is fitted, if there are many.
    """

    def __init__(
        self, encoding: ParameterEncoding, trials: Sequence[FrozenTrial], sign: float, rng: np.random.Generator
    ) -> None:
        self.sign = sign
        self.points = encoding.points_of([trial.params for trial in trials])
        """[trials, parameters]."""
        rows = [row for row, trial in enumerate(trials) if trial.intermediate_values][-MOST_COMPARED:]
        self.seen = [trials[row] for row in rows]
        self.seen_points = self.points[rows]
        self.process: GaussianProcess | None = None
        """The process over the trials with an epoch; None while there are too few."""
        if len(rows) >= FEWEST_COMPARED:
            columns, zeros = encoding.encode(self.seen_points), np.zeros(len(rows), int)
            self.process = GaussianProcess(columns, encoding.groups, win_scores(self.seen, sign), zeros, 1, rng)

    def best(self, num: int) -> Array:
        """Return the points of the `num` best trials with an epoch, from best to worst."""
        assert self.process is not None
        return self.seen_points[np.argsort(-self.process.targets, kind="stable")[:num]]


def win_scores(trials: Sequence[FrozenTrial], sign: float = 1.0) -> Array:
    """Rank trials that were trained for different numbers of epochs.

    Two trials are compared at the last epoch that both have reached; a completed one keeps its last value. A trial without a value loses.

    Args:
        trials: The trials to rank, at least one.
        sign: 1 if higher values are better, else -1. Default: 1.

    Returns:
        Normal scores with mean 0 and variance 1, [trials]; higher is better.
    """
    order = _order(trials, sign)
    wins = ((order > 0).sum(axis=1) + 0.5 * (order == 0).sum(axis=1)) / len(trials)
    scores = ndtri(np.clip(wins, 0.5 / len(trials), 1 - 0.5 / len(trials)))
    return (scores - scores.mean()) / max(float(scores.std()), 1e-9)


def _order(trials: Sequence[FrozenTrial], sign: float) -> Array:
    """Return a matrix [trials, trials] that is 1 where the trial of the row is better, -1 where it is worse, and 0 otherwise.

    They are compared as in `win_scores`.
    """
    order = np.zeros((len(trials), len(trials)))
    for i, trial in enumerate(trials):
        for j in range(i):
            order[i, j] = _compared(trial, trials[j], sign)
            order[j, i] = -order[i, j]
    return order


def _compared(trial: FrozenTrial, other: FrozenTrial, sign: float) -> float:
    curves = [each.intermediate_values for each in (trial, other)]
    if not all(curves):
        return float(bool(curves[0])) - float(bool(curves[1]))
    completed = [each.state == TrialState.COMPLETE for each in (trial, other)]
    ends = [max(values) for values in curves]
    # The weights of a completed training do not change any more, so it is compared at any epoch.
    epoch = min((end for end, done in zip(ends, completed, strict=True) if not done), default=max(ends))
    first, second = (
        continued(values, [epoch], done).get(epoch, -sign * math.inf)
        for values, done in zip(curves, completed, strict=True)
    )
    return sign * (float(first > second) - float(first < second))


def _disagreement(order: Array, expected: Array) -> Array:
    """Return a matrix [trials, trials] that is 1 where the order of two trials is not the expected one, and 0 otherwise.

    It is one half for a pair for which no order is expected.
    """
    return np.abs(order) * (1 - order * np.sign(expected[:, None] - expected[None, :])) / 2
