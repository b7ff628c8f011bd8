"""The model of `winnow.search.samplers.forecast`, which predicts the last epoch of every training and finds the best new config.

It is a separate module because importing SciPy takes a third of a second, and the first trials of a search do not need it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from scipy.special import ndtri
from scipy.stats import rankdata
from threadpoolctl import ThreadpoolController

from winnow.search.samplers.draft import RANDOM
from winnow.search.samplers.encoding import ParameterEncoding
from winnow.search.samplers.epoch_cost import EpochCost, work_per_image
from winnow.search.samplers.gaussian_process import GaussianProcess, best_and_some_others, log_expected_improvement
from winnow.spaces.epoch_figures import continued

MOST_CHECKED = 60  # the skill of the model is measured on at most this many random trials, the newest ones
FEWEST_CHECKED = 6
UNKNOWN_SKILL = 0.5  # assumed while there are fewer random trials
VERY_BAD, EXPLODED = 2.0, 20.0
"""Distances below the median, in ranges of the better half, from which a value is very bad and from which its training exploded."""
NUM_ELITES = 5  # new points are drawn around this many trials
LARGEST_POSTERIOR = 200  # observations; the cost of a suggestion grows with the square of this number
MOST_RUNNING = (
    100  # running trials; if there are more, the most promising ones are used, since new points lie near them
)
REFINEMENTS = (0.05, 0.02, 0.01)  # standard deviations of moves in the last steps of the search for the best new point

BLAS = ThreadpoolController()
"""Limits BLAS to one thread. For a few hundred rows, more threads wait for cores that trainings use (4 times as slow on 2 cores)."""

Array = np.ndarray


class Forecast:
    """Predicts the scores of trials and new points at the last epoch, in standard deviations. Higher is better.

    Args:
        trials: All trials of the study.
        paused: Numbers of the paused trials.
        sign: 1 if higher values are better, else -1.
        rungs: The epochs at which trials are compared, ascending, and the last epoch of a training.
        weigh_cost: Whether epochs are weighted by their cost.
        rng: Source of the draws.
    """

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
        self.encoding = ParameterEncoding(trials)
        self._columns = self.encoding.encode(self.encoding.points)
        self._at_rungs = [
            continued(trial.intermediate_values, rungs, trial.state == TrialState.COMPLETE) for trial in trials
        ]
        rows, levels, values = self._observations(sign)
        targets = _scores(rows, levels, values, self._gained(sign))
        self._add_failures(rows, levels, targets)
        kept = best_and_some_others(np.array(targets), LARGEST_POSTERIOR, rng)
        seen = _Seen(self._inputs(self._columns[rows], levels), np.array(targets), np.array(levels))
        modelled = seen.part(kept)
        groups = np.append(self.encoding.groups, len(self.encoding.names))
        self._process = GaussianProcess(modelled.inputs, groups, modelled.targets, modelled.levels, len(rungs), rng)
        self.skill = self._skill(rows, seen)
        self._believe_running(modelled, paused)
        self.mean, self.deviation = self._process.predict(self._at_end(self._columns))
        self.best = self.mean.max()
        work = [work_per_image(trial.user_attrs) if weigh_cost else math.nan for trial in trials]
        self.cost = EpochCost(self._columns, np.array(work))

    def best_paused(self, paused: Collection[int]) -> tuple[int, float]:
        """Return (number, score) of the paused trial with the highest expected improvement relative to its remaining cost."""
        rows = [i for i, trial in enumerate(self.trials) if trial.number in paused]
        still_to_train = np.array([self.max_epochs - max(self.trials[i].intermediate_values, default=0) for i in rows])
        gain = log_expected_improvement(self.mean[rows], self.deviation[rows], self.best)
        scores = gain - np.log(still_to_train / self.max_epochs) - self.cost.of_trials[rows]
        return self.trials[rows[scores.argmax()]].number, float(scores.max())

    def best_new(self, rng: np.random.Generator) -> tuple[Array, float]:
        """Return (point, score) of the best new config, found by a random search that narrows down to the best candidates."""
        elites = self.encoding.points[np.argsort(-self.mean)[:NUM_ELITES]]
        points = np.concatenate(
            [self.encoding.sample_uniform(400, rng)]
            + [self.encoding.perturb(elites, 40, deviation, rng) for deviation in (0.05, 0.15)]
        )
        scores = self._score(points)
        for deviation in REFINEMENTS:
            top = points[np.argsort(-scores)[:8]]
            nearby = self.encoding.perturb(top, 15, deviation, rng)
            points, scores = (
                np.concatenate([top, nearby]),
                np.concatenate([np.sort(scores)[::-1][:8], self._score(nearby)]),
            )
        return points[scores.argmax()], float(scores.max())

    def _score(self, points: Array) -> Array:
        columns = self.encoding.encode(points)
        mean, deviation = self._process.predict(self._at_end(columns))
        return log_expected_improvement(mean, deviation, self.best) - self.cost.of(columns)

    def _observations(self, sign: float) -> tuple[list[int], list[int], list[float]]:
        """Return the observations: the row of the trial, the index of the rung, and the value (higher is better) of each.

        They are ordered by rung.
        """
        seen = [
            (row, level, sign * values[rung])
            for level, rung in enumerate(self.rungs)
            for row, values in enumerate(self._at_rungs)
            if rung in values
        ]
        rows, levels, values = zip(*seen, strict=True)
        return list(rows), list(levels), list(values)

    def _add_failures(self, rows: list[int], levels: list[int], targets: list[float]) -> None:
        """Add failed trials, as if they had the worst value at the last epoch."""
        worst = min(targets)
        for row, trial in enumerate(self.trials):
            if trial.state == TrialState.FAIL:
                rows.append(row)
                levels.append(len(self.rungs) - 1)
                targets.append(worst)

    def _skill(self, rows: list[int], seen: _Seen) -> float:
        """Return how well the model orders random trials that it has not seen, as Spearman's correlation (-1 to 1).

        Each trial is forecast at its last rung from the others at their last rungs. Configs that the model chose cannot test it,
        because they lie close together.
        """
        last = {row: index for index, row in enumerate(rows) if self.trials[row].user_attrs.get(RANDOM)}
        if len(last) < FEWEST_CHECKED:
            return UNKNOWN_SKILL
        checked = seen.part(np.array([last[row] for row in sorted(last)[-MOST_CHECKED:]]))
        expected = self._process.leave_one_out(checked.inputs, checked.targets, checked.levels)
        if np.ptp(checked.targets) == 0 or np.ptp(expected) == 0:
            return 0.0
        return float(np.corrcoef(rankdata(expected), rankdata(checked.targets))[0, 1])

    def _gained(self, sign: float) -> list[float]:
        """Return the mean gain of trials since the first rung, for each rung. No gain is assumed at rungs that no trial has reached.

        Trials whose value exploded are left out: they would be the mean where few trials have reached a rung.
        """
        gained = [0.0]
        for before, after in pairwise(self.rungs):
            curves = self._at_rungs
            seen = sign * np.array([values[rung] for values in curves for rung in (before, after) if rung in values])
            both = [(values[before], values[after]) for values in curves if {before, after} <= values.keys()]
            pairs = sign * np.array(both).reshape(-1, 2)
            pairs = pairs[(pairs >= _lower_bound(seen, EXPLODED)).all(1)] if both else pairs
            gain = float(np.mean(_cut(pairs[:, 1]) - _cut(pairs[:, 0]))) if len(pairs) else 0.0
            gained.append(gained[-1] + gain)
        return gained

    def _believe_running(self, modelled: _Seen, paused: Collection[int]) -> None:
        """Treat running trials as if they ended as forecast, so that several workers do not explore the same region."""
        running = [
            i for i, trial in enumerate(self.trials) if trial.state == TrialState.RUNNING and trial.number not in paused
        ]
        if running:
            ends = self._at_end(self._columns[running])
            expected = self._process.predict(ends)[0]
            promising = np.argsort(-expected, kind="stable")[:MOST_RUNNING]
            last = np.full(len(promising), len(self.rungs) - 1)
            self._process.condition(
                np.concatenate([modelled.inputs, ends[promising]]),
                np.concatenate([modelled.targets, expected[promising]]),
                np.concatenate([modelled.levels, last]),
            )

    def _at_end(self, columns: Array) -> Array:
        return self._inputs(columns, np.full(len(columns), len(self.rungs) - 1))

    def _inputs(self, columns: Array, levels: Array | list[int]) -> Array:
        epochs = np.log(np.array(self.rungs))[levels]
        return np.column_stack([columns, epochs / math.log(max(self.max_epochs, 2))])


@dataclass(frozen=True)
class _Seen:
    """Observations: points with their epochs [n, columns], scores [n], and indices of their rungs [n]."""

    inputs: Array
    targets: Array
    levels: Array

    def part(self, rows: Array) -> _Seen:
        return _Seen(self.inputs[rows], self.targets[rows], self.levels[rows])


def _scores(
    rows: Sequence[int], levels: Sequence[int], values: Sequence[float], gained: Sequence[float]
) -> list[float]:
    """Convert values at different rungs to scores on one scale with mean 0 and variance 1.

    A score is the mean of two standardized parts: the value minus the average gain since the first rung, and the rank.

    Args:
        rows: The trial of each value.
        levels: The rung of each value, ascending.
        values: The values; higher is better.
        gained: The average gain since the first rung, for each rung.
    """
    levelled = np.array(values) - np.array(gained)[levels]
    both = _standardize(_cut(levelled)) + _standardize(_rank_scores(rows, np.array(levels), np.array(values)))
    return list(_standardize(both))


def _cut(values: Array) -> Array:
    """Raise very bad values to a lower bound: how bad they are does not matter."""
    return np.maximum(values, _lower_bound(values, VERY_BAD))


def _lower_bound(values: Array, reach: float) -> float:
    """Return the value that lies `reach` ranges of the better half below the median.

    If half of all values equal the best one, as with a saturated accuracy, the median of the other values is used instead.
    """
    middle, top = np.median(values), values.max()
    if middle == top and (values < top).any():
        middle = np.median(values[values < top])
    return float(middle - reach * (top - middle))


def _rank_scores(rows: Sequence[int], levels: Array, values: Array) -> Array:
    """Return rank scores that are comparable between rungs.

    At the first rung they are normal scores. At each later one, its trials redistribute their previous scores by rank: the best
    gets the highest.
    """
    scores = np.empty(len(values))
    latest: dict[int, float] = {}
    for level in range(int(levels.max()) + 1):
        at_level = np.flatnonzero(levels == level)
        if not len(at_level):
            continue
        ranks = rankdata(values[at_level])
        trials = [rows[i] for i in at_level.tolist()]
        if all(trial in latest for trial in trials):
            before = np.sort([latest[trial] for trial in trials])
            scores[at_level] = np.interp(ranks, np.arange(1, len(at_level) + 1), before)
        else:
            scores[at_level] = ndtri((ranks - 0.5) / len(at_level))
        latest |= dict(zip(trials, scores[at_level].tolist(), strict=True))
    return scores


def _standardize(values: Array) -> Array:
    """Scale values to mean 0 and variance 1."""
    return (values - values.mean()) / max(float(values.std()), 1e-9)
