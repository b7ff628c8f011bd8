"""Presents a search with several objectives to a sampler for a single objective, by a different weighting for each suggestion.

The weights are drawn at random for each suggestion, and the value of every trial is the augmented Chebyshev value of its objectives
(Knowles, "ParEGO", 2006). A sampler that optimizes many weightings finds the Pareto front.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from winnow.search.samplers.study_view import view_of
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.spaces.epoch_figures import is_cost
from winnow.spaces.fronts import gain, gains

LINEAR_PART = 0.05
"""Weight of the sum of all losses relative to the largest of them. It makes a dominated trial worse than one that dominates it."""
NUM_EVEN = 64
"""Number of weightings over which `evenly_weighted` takes the mean."""

Array = np.ndarray


def scalarized(study: optuna.Study, settings: Settings) -> optuna.Study:
    """Return a view of a study in which each value is a random weighting of all objectives.

    Args:
        study: The study of the search. Its values are those of the first objective; the attributes of its trials hold the others.
        settings: The settings of the search. The weights follow from its seed and from the numbers of trials and epochs so far.
    """
    trials = study.get_trials(deepcopy=False)
    valued = [trial for trial in trials if trial.intermediate_values]
    if not valued:
        return study
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    rng = np.random.default_rng([derive_seed(Stream.SAMPLER, settings.seed, len(trials)), epochs])
    weights = rng.dirichlet(np.ones(len(settings.ranked_by)), 1)
    shown = {trial.number: trial for trial in _weighted(valued, weights, settings)}
    return view_of([shown.get(trial.number, trial) for trial in trials], study.direction)


def evenly_weighted(trials: Sequence[FrozenTrial], settings: Settings) -> list[FrozenTrial]:
    """Return copies of trials in which each value is the mean over `NUM_EVEN` weightings, which are always the same.

    Args:
        trials: Trials of the search, each with an epoch. Their values are those of the first objective; their attributes hold the others.
        settings: The settings of the search.
    """
    weights = np.random.default_rng(0).dirichlet(np.ones(len(settings.ranked_by)), NUM_EVEN)
    return _weighted(trials, weights, settings) if trials else []


def _weighted(trials: Sequence[FrozenTrial], weights: Array, settings: Settings) -> list[FrozenTrial]:
    """Return copies of trials, each with an epoch, whose values are the mean over the weightings [weightings, objectives]."""
    rows = [_objectives(trial, settings, max(trial.intermediate_values)) for trial in trials]
    points = gains(rows, settings.ranked_by)
    scale = _Scale(points, weights, settings)
    return [scale.weighted(trial, point) for trial, point in zip(trials, points, strict=True)]


def _objectives(trial: FrozenTrial, settings: Settings, epoch: int) -> list[float | None]:
    """Return the objectives of a trial after an epoch, in the order of `Settings.ranked_by`; None for those that are not known."""
    return [trial.intermediate_values[epoch], *map(trial.user_attrs.get, settings.attributes(epoch))]


def _median_below_best(values: Array) -> float:
    """Return the median, or that of the values below the best one if the median is the best one."""
    median, best = np.median(values), values.max()
    below = values[values < best]
    return float(np.median(below) if median == best and len(below) else median)


class _Scale:
    """Combines the objectives of a trial, each converted to a loss that is 0 for the best value so far.

    A metric is scaled so that its median has the loss 0.5, because values of failed trainings would stretch its range. If half of
    the trials have the best value, it is the median of the others. Costs are scaled by the range of their logarithms.
    """

    def __init__(self, points: Array, weights: Array, settings: Settings) -> None:
        self._settings = settings
        self._weights = weights
        self._sign = 1 if settings.direction == "maximize" else -1
        self._best = points.max(axis=0)
        to_median = 2 * (self._best - np.array([_median_below_best(values) for values in points.T]))
        costs = [is_cost(name) for name in settings.ranked_by]
        self._range = np.maximum(np.where(costs, np.ptp(points, axis=0), to_median), 1e-9)

    def weighted(self, trial: FrozenTrial, point: Array) -> FrozenTrial:
        """Return a copy of a trial with weighted values.

        Args:
            trial: The trial.
            point: Its objectives after its last epoch; higher is better.
        """
        again = copy.copy(trial)
        again.intermediate_values = {e: self._value(self._at(trial, e, point)) for e in trial.intermediate_values}
        if trial.value is not None:
            again.values = [self._value(np.array([self._sign * trial.value, *point[1:]]))]
        return again

    def _at(self, trial: FrozenTrial, epoch: int, point: Array) -> Array:
        """Return the objectives of a trial after an epoch, higher is better; those that are not known are taken from `point`."""
        objectives = zip(_objectives(trial, self._settings, epoch), self._settings.ranked_by, strict=True)
        then = np.array([gain(value, name) for value, name in objectives])
        return np.where(np.isnan(then), point, then)

    def _value(self, gained: Array) -> float:
        losses = (self._best - gained) / self._range
        weighted = self._weights * losses
        return -self._sign * float((weighted.max(axis=1) + LINEAR_PART * weighted.sum(axis=1)).mean())
