"""Estimates the cost of an epoch from the multiply-adds that each trial reports when it starts. For new configs they are forecast.

The logarithm of the cost is close to linear in the columns of `winnow.search.samplers.encoding`, because depth, width, image size and
kind of network act as factors. Measured seconds are not used, so that a search depends only on its seed and the results of its trials.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

RIDGE = 0.3  # prior precision of a slope, in units of a log cost

Array = np.ndarray


@dataclass(frozen=True)
class Overhead:
    """The cost of a training beyond the multiply-adds of its network, as the number of multiply-adds that take the same time."""

    per_image: float
    per_step: float


CPU = Overhead(
    per_image=5e5, per_step=2e7
)  # 72 configs of two spaces, one thread, bfloat16: benchmarks/speed/epoch_cost.py
GPU = Overhead(per_image=5e5, per_step=1.5e10)  # an assumption: 3 ms of kernel launches per step at 30 TFLOP/s


def work_per_image(attrs: dict[str, Any]) -> float:
    """Return the work per image of a trial in multiply-adds; NaN until its worker has reported the size of the network.

    Args:
        attrs: The user attributes of the trial.
    """
    if "multiply_adds" not in attrs:
        return math.nan
    overhead = CPU if attrs.get("device", "cpu") == "cpu" else GPU
    return float(attrs["multiply_adds"] + overhead.per_image + overhead.per_step / attrs["config"]["batch_size"])


class EpochCost:
    """Forecasts costs as natural logarithms, relative to the mean of the trials.

    Args:
        columns: The encoded trials, [n, columns].
        work: The work per image of each trial, [n], above 0; NaN where it is not known yet.

    Attributes:
        of_trials: The cost of each trial, [n]; forecast where its work is not known.
    """

    def __init__(self, columns: Array, work: Array) -> None:
        known = np.isfinite(work)
        self._centre, self._slopes, self._range = np.zeros(columns.shape[1]), np.zeros(columns.shape[1]), (0.0, 0.0)
        cost = np.zeros(len(columns))
        if known.any():
            cost[known] = np.log(work[known])
            cost[known] -= cost[known].mean()
            self._centre = columns[known].mean(axis=0)
            inputs = columns[known] - self._centre
            precision = inputs.T @ inputs + RIDGE * np.eye(columns.shape[1])
            self._slopes = np.linalg.solve(precision, inputs.T @ cost[known])
            self._range = (float(cost[known].min()), float(cost[known].max()))
        self.of_trials = np.where(known, cost, self.of(columns))

    def of(self, columns: Array) -> Array:
        """Forecast the costs [m] of new points [m, columns], limited to the range of the costs of the trials."""
        return np.clip((columns - self._centre) @ self._slopes, *self._range)
