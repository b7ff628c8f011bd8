"""Estimates the value that each trial would have after a full training, so that importance does not confuse speed with final quality.

Under early stopping, most trials end at an early rung, where a parameter that only speeds up learning seems to improve the result. A
ridge regression on the parameters and the rung predicts every trial's value at the last epoch. These predictions replace the last
values only if the last values are misleading. The recorded rungs show this: the regression, cross-validated by trial, must rank the
trials at a rung clearly better than their own values one rung earlier do.

Without this condition the regression would also be used where it fails: on recorded trainings, whose learning rates span many decades
and whose curves stay at chance, its importances are far worse than those of last values.

`python -m benchmarks.search_quality.importance [--rivals]` compares both, and others, with the true importances;
docs/decisions/0043-importance-of-the-end-where-rungs-tell.md has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

Array = np.ndarray
Observed = Mapping[int, float]
"""Values of one trial by epoch."""

LEAST_GAIN = 0.0
"""Required advantage in rank correlation for the estimates of the regression to replace the last values."""
MIN_PAIRS = 6
"""Number of trials that two consecutive rungs must share to be compared."""
FOLDS = 5
FENCE = 1.5
"""Distance from the quartiles, in interquartile ranges, beyond which a value is an outlier, as in a box plot."""
PENALTIES = np.logspace(-1, 2, 7)
"""Penalties of the ridge regression. Smaller ones extrapolate wildly if few trials have reached the last rungs."""


def end_values(
    columns: Array,
    observed: Sequence[Observed],
    rungs: Sequence[int],
    maximize: bool,
    fitted: Sequence[int] | None = None,
    least_gain: float = LEAST_GAIN,
) -> Array | None:
    """Estimate the value of every trial at the last rung, if these estimates are better than the last values.

    Args:
        columns: The parameters, float64 [trials, columns], each column within [0, 1].
        observed: The finite values of each trial by epoch. Bad outliers count as in `without_bad_outliers`.
        rungs: Epochs at which trials are judged, ascending; the last one is the full training.
        maximize: Whether a larger value is better.
        fitted: Indices of the trials to which the regression is fitted. Default: all trials.
        least_gain: Required advantage of the estimates; minus infinity to estimate always. Default: `LEAST_GAIN`.

    Returns:
        float64 [trials]; None if the last value of each trial is the better measure.
    """
    fitted = range(len(observed)) if fitted is None else fitted
    rows = [(trial, epoch) for trial in fitted for epoch in rungs if epoch in observed[trial]]
    if len(rungs) < 2 or len(rows) < FOLDS:
        return None
    trials = np.array([trial for trial, _ in rows])
    values = without_bad_outliers(np.array([observed[trial][epoch] for trial, epoch in rows]), maximize)
    missing = np.array([1 - np.log(epoch) / np.log(rungs[-1]) for _, epoch in rows])
    if np.ptp(values) == 0:
        return None
    predicted = np.full(len(rows), np.nan)
    for fold in range(FOLDS):
        held_out = trials % FOLDS == fold
        if held_out.any() and not held_out.all():
            train, test = (_features(columns[trials[part]], missing[part]) for part in (~held_out, held_out))
            predicted[held_out] = _ridge(train, values[~held_out], test)
    by_row = dict(zip(rows, predicted.tolist(), strict=True))
    if least_gain > -math.inf and _gain(by_row, {trial: observed[trial] for trial in fitted}, rungs) <= least_gain:
        return None
    end = _features(columns, np.zeros(len(columns)))
    return _ridge(_features(columns[trials], missing), values, end)


def without_bad_outliers(values: Array, maximize: bool) -> Array:
    """Replace the bad outliers among values: a single loss that explodes would otherwise be nearly all of their variance.

    A value that is worse than the worse quartile by more than `FENCE` interquartile ranges is replaced by that limit (Tukey's fence).
    Each distinct value counts once for the quartiles, so that many equal values do not make outliers of all others.

    Args:
        values: Values, float64 [n].
        maximize: Whether a larger value is better.

    Returns:
        float64 [n].
    """
    if not len(values):
        return values
    lower, upper = np.quantile(np.unique(values), (0.25, 0.75))
    reach = FENCE * (upper - lower)
    return np.maximum(values, lower - reach) if maximize else np.minimum(values, upper + reach)


def _features(columns: Array, missing: Array) -> Array:
    """Return features that are quadratic in each parameter and in the missing share of the training, with their products."""
    quadratic, share = np.hstack([columns, columns**2]), missing[:, None]
    return np.hstack([quadratic, share, share**2, quadratic * share, quadratic * share**2])


def _ridge(features: Array, values: Array, others: Array) -> Array:
    from sklearn.linear_model import RidgeCV

    mean, deviation = values.mean(), values.std() or 1.0
    model = RidgeCV(PENALTIES).fit(features, (values - mean) / deviation)
    return np.asarray(model.predict(others)) * deviation + mean


def _gain(predicted: Mapping[tuple[int, int], float], observed: Mapping[int, Observed], rungs: Sequence[int]) -> float:
    """Return by how much the predictions rank the trials at a rung better than their values at the rung before, mean over the rungs."""
    from scipy.stats import rankdata

    gain, weight = 0.0, 0
    for earlier, later in pairwise(rungs):
        both = [trial for trial, values in observed.items() if earlier in values and later in values]
        if len(both) < MIN_PAIRS:
            continue
        before = rankdata([observed[trial][earlier] for trial in both])
        after = rankdata([observed[trial][later] for trial in both])
        model = rankdata([predicted[trial, later] for trial in both])
        gain += len(both) * (_correlation(model, after) - _correlation(before, after))
        weight += len(both)
    return gain / weight if weight else -math.inf


def _correlation(a: Array, b: Array) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else 0.0
