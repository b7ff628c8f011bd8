"""Forecasts the final value of unfinished trainings with 90 % intervals, from their own curves and those of the other trials.

The future gain of a curve is measured in units of its recent changes: its gain over the last doubling of its epochs, and its
roughness. In these units, trainings of very different kinds have similar gains over the same share of the training (`KNOWN_GAINS`).
Each other trial adds its own gain over that share of its epochs, so that a search soon adapts to its own kind of curve.
`python -m benchmarks.search_quality.expected_ends` measures how often the intervals contain the final value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from winnow.spaces.epoch_figures import is_share

Array = np.ndarray

FEWEST_EPOCHS = 2
"""Number of epochs that a trial must have before its final value is forecast."""
MOST_CURVES = 100
"""Largest number of curves from which a forecast learns; the longest ones are used."""
KNOWN_WEIGHT, MOST_WEIGHT = 10.0, 40.0
"""Weight of `KNOWN_GAINS`, and largest total weight of the trials of the search, both as numbers of trials."""
FLAT = 0.02
"""Smallest unit of a gain, as a share of the interquartile range of the last values."""
LEAST_ERROR = 0.02
"""Added to an error before its logarithm is taken, since differences between smaller errors are mostly chance."""
TAIL = 0.04
"""Forecast share of the final values below an interval, and above it. It is slightly less than 5 %, since the best trials of a search
are harder to forecast than the trials from which `KNOWN_GAINS` was measured."""

QUANTILES = (0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.975)
KNOWN_GAINS: Mapping[float, tuple[float, ...]] = {
    0.037: (-2.50, -1.40, -0.66, 0.00, 0.64, 1.47, 2.91, 5.63, 11.47, 21.14, 36.42),
    0.111: (-2.06, -1.04, -0.54, 0.00, 0.57, 1.18, 1.97, 3.58, 6.54, 9.06, 14.84),
    0.200: (-2.24, -1.52, -0.56, -0.01, 0.44, 0.96, 1.62, 2.65, 4.67, 6.63, 8.65),
    0.333: (-1.92, -1.30, -0.57, -0.04, 0.28, 0.66, 1.10, 1.94, 3.50, 5.13, 7.09),
    0.500: (-1.65, -1.05, -0.60, -0.12, 0.04, 0.37, 0.68, 1.30, 2.06, 3.12, 4.68),
    0.667: (-1.44, -1.10, -0.60, -0.21, 0.00, 0.18, 0.44, 0.76, 1.19, 1.85, 2.49),
    0.900: (-1.03, -0.73, -0.48, -0.16, 0.00, 0.04, 0.14, 0.26, 0.45, 0.74, 0.98),
}
"""Quantiles of the later gain, by the completed share of the training; `expected_ends --fit` prints them."""


class ExpectedEnd(NamedTuple):
    """The forecast of the final value of a training: the median, and a 90 % interval."""

    middle: float
    low: float
    high: float


class ExpectedEnds:
    """Forecasts the final values of trainings.

    Args:
        curves: The objectives of each trial after epochs 1, 2, ...; a curve ends at a value that is not finite.
        max_epochs: Epochs of a full training.
        objective: The figure that trials are judged by, one of `winnow.spaces.epoch_figures.OBJECTIVES`.
        maximize: Whether high values are good.
    """

    def __init__(self, curves: Sequence[Sequence[float]], max_epochs: int, objective: str, maximize: bool) -> None:
        self._max_epochs = max_epochs
        self._scale = Scale(objective, maximize)
        finite = [self._scale.of(_finite(curve)) for curve in curves]
        last = [curve[-1] for curve in finite if len(curve)]
        self._spread = float(np.subtract(*np.percentile(last, [75, 25]))) if last else 0.0
        longest = sorted((curve for curve in finite if len(curve) > FEWEST_EPOCHS), key=len, reverse=True)[:MOST_CURVES]
        self._lengths = np.array([len(curve) for curve in longest], dtype=int)
        self._values = _padded(longest)
        self._units = _padded([_units(curve, self._spread) for curve in longest])
        self._gains: dict[int, Array] = {}

    def of(self, curve: Sequence[float]) -> ExpectedEnd | None:
        """Forecast the final value of a training.

        Args:
            curve: Its objectives after epochs 1, 2, ...

        Returns:
            The forecast; None if the training has fewer than two epochs, has ended, or has diverged.
        """
        values = self._scale.of(_finite(curve))
        num_epochs = len(values)
        if num_epochs < len(curve) or not FEWEST_EPOCHS <= num_epochs < self._max_epochs:
            return None
        if num_epochs not in self._gains:
            self._gains[num_epochs] = self._gains_after(num_epochs)
        ends = values[-1] + self._gains[num_epochs] * unit_of(values, self._spread)
        low, middle, high = np.sort(self._scale.back(ends)).tolist()
        return ExpectedEnd(middle, low, high)

    def _gains_after(self, num_epochs: int) -> Array:
        """Return the lower end, the median and the upper end of the gain after a number of epochs, in units."""
        share = num_epochs / self._max_epochs
        earlier = np.rint(self._lengths * share).astype(int)
        usable = np.flatnonzero((earlier >= FEWEST_EPOCHS) & (earlier < self._lengths))
        before = earlier[usable] - 1
        gained = self._values[usable, self._lengths[usable] - 1] - self._values[usable, before]
        own = gained / self._units[usable, before]
        weight = min(1.0, MOST_WEIGHT / max(len(own), 1))
        gains = np.concatenate([_known_gains(share), own])
        weights = np.concatenate([KNOWN_WEIGHT * _WEIGHTS, np.full(len(own), weight)])
        order = np.argsort(gains, kind="stable")
        ranks = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
        return np.interp([TAIL, 0.5, 1 - TAIL], ranks, gains[order])


class Scale:
    """The scale on which gains are measured, where higher is better. For fractions it is the logarithm of the error, which stays above 0.

    Args:
        objective: The figure that trials are judged by.
        maximize: Whether high values are good.
    """

    def __init__(self, objective: str, maximize: bool) -> None:
        self._is_share = is_share(objective)
        self._maximize = maximize
        self._least = 0.0 if objective == "validation_loss" else -math.inf

    def of(self, values: Array) -> Array:
        """Convert values of the objective, of any shape, to the scale."""
        if not self._is_share:
            return values if self._maximize else -values
        error = 1 - values if self._maximize else values
        return -np.log(np.clip(error, 0, 1) + LEAST_ERROR)

    def back(self, scaled: Array) -> Array:
        """Convert values on the scale to values of the objective."""
        if not self._is_share:
            return np.maximum(scaled if self._maximize else -scaled, self._least)
        error = np.clip(np.exp(-scaled) - LEAST_ERROR, 0, 1)
        return 1 - error if self._maximize else error


def unit_of(values: Array, spread: float) -> float:
    """Return the unit in which the gains after a curve are measured.

    Args:
        values: The curve so far on its scale, [epochs], at least two.
        spread: The interquartile range of the last values of all trials, on the same scale.
    """
    return float(_units(values, spread)[-1])


def _units(values: Array, spread: float) -> Array:
    """Return the unit after each epoch: the root of the sum of squares of recent gain, roughness and `FLAT`."""
    epochs = np.arange(1, len(values) + 1)
    recent = values - values[np.maximum(epochs // 2, 1) - 1]
    # Noise of variance v gives second differences of variance 6 v.
    bends = np.concatenate([np.zeros(2), np.cumsum(np.diff(values, 2) ** 2)])[: len(values)]
    roughness = bends / np.maximum(epochs - 2, 1) / 6
    return np.sqrt(recent**2 + roughness + (FLAT * spread) ** 2) + 1e-12


_WEIGHTS = np.diff([0.0, *((a + b) / 2 for a, b in itertools.pairwise(QUANTILES)), 1.0])
"""Share of the known trainings that each of `QUANTILES` represents."""


def _known_gains(share: float) -> Array:
    shares = np.log(list(KNOWN_GAINS))
    return np.array([np.interp(math.log(share), shares, column) for column in zip(*KNOWN_GAINS.values(), strict=True)])


def _finite(curve: Sequence[float]) -> Array:
    values = np.asarray(curve, dtype=float)
    wrong = np.flatnonzero(~np.isfinite(values))
    return values[: wrong[0]] if len(wrong) else values


def _padded(rows: Sequence[Array]) -> Array:
    """Return rows of different lengths as one array [rows, longest], padded with ones."""
    padded = np.ones((len(rows), max(map(len, rows), default=0)))
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
