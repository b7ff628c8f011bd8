"""Presents a search with several objectives to a sampler for a single objective, by a different weighting for each suggestion.

The weights are drawn at random for each suggestion, and the value of every trial is the augmented Chebyshev value of its objectives
(Knowles, "ParEGO", 2006). A sampler that optimizes many weightings finds the Pareto front.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from winnow.search.samplers.study_view import view_of
from winnow.search.seeds import Stream, derive_seed
from winnow.spaces.fronts import gains

LINEAR_PART = 0.05
"""Weight of the sum of all losses relative to the largest of them. It makes a dominated trial worse than one that dominates it."""

Array = np.ndarray


def scalarized(study: optuna.Study, costs: Sequence[str], seed: int) -> optuna.Study:
    """Return a view of a study in which each value is a random weighting of all objectives.

    Args:
        study: The study of the search, whose values are those of the metric.
        costs: Names of the trial attributes that are minimized besides the metric.
        seed: Seed of the search. The weights follow from it and from the numbers of trials and epochs so far.
    """
    trials = study.get_trials(deepcopy=False)
    valued = [trial for trial in trials if trial.intermediate_values]
    if not valued:
        return study
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    rng = np.random.default_rng([derive_seed(Stream.SAMPLER, seed, len(trials)), epochs])
    weights = rng.dirichlet(np.ones(1 + len(costs)))
    maximize = study.direction == StudyDirection.MAXIMIZE
    last = [trial.intermediate_values[max(trial.intermediate_values)] for trial in valued]
    points = gains(last, [[trial.user_attrs.get(cost) for cost in costs] for trial in valued], maximize)
    scale = _Scale(points, weights, 1 if maximize else -1)
    shown = {trial.number: scale.weighted(trial, point) for trial, point in zip(valued, points, strict=True)}
    return view_of([shown.get(trial.number, trial) for trial in trials], study.direction)


class _Scale:
    """Combines the objectives of a trial, each converted to a loss that is 0 for the best value so far.

    The metric is scaled so that its median has the loss 0.5, because values of failed trainings would stretch its range. Costs are
    scaled by the range of their logarithms.
    """

    def __init__(self, points: Array, weights: Array, sign: int) -> None:
        self._weights = weights
        self._sign = sign
        self._best = points.max(axis=0)
        self._range = np.maximum(np.ptp(points, axis=0), 1e-9)
        self._range[0] = max(2 * (self._best[0] - np.median(points[:, 0])), 1e-9)

    def weighted(self, trial: FrozenTrial, point: Array) -> FrozenTrial:
        """Return a copy of a trial with weighted values.

        Args:
            trial: The trial.
            point: Its objectives; higher is better.
        """
        again = copy.copy(trial)
        again.intermediate_values = {e: self._value(v, point) for e, v in trial.intermediate_values.items()}
        if trial.value is not None:
            again.values = [self._value(trial.value, point)]
        return again

    def _value(self, metric: float, point: Array) -> float:
        losses = (self._best - np.array([self._sign * metric, *point[1:]])) / self._range
        weighted = self._weights * losses
        return -self._sign * float(weighted.max() + LINEAR_PART * weighted.sum())
