"""Estimates the cost of an epoch: from the multiply-adds that each trial reports when it starts, and for a new config by a forecast from those.

Its logarithm is close to linear in the columns of `winnow.search.samplers.encoding`: depth, width, the image's size and the kind of network multiply.
Measured seconds are not used, so that a search depends only on its seed and the results of its trials.
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
    """The cost of a training beyond the multiply-adds of its network, in multiply-adds of a forward pass that take as long."""

    per_image: float
    per_step: float


CPU = Overhead(
    per_image=5e5, per_step=2e7
)  # 72 configs of two spaces, one thread, bfloat16: benchmarks/speed/epoch_cost.py
GPU = Overhead(per_image=5e5, per_step=1.5e10)  # not measured: 3 ms of kernel launches a step, 30 TFLOP/s within them


def work_per_image(attrs: dict[str, Any]) -> float:
    """Return the work per image of a trial with these user attributes, in multiply-adds; NaN until its worker has reported the size."""
    if "multiply_adds" not in attrs:
        return math.nan
    overhead = CPU if attrs.get("device", "cpu") == "cpu" else GPU
    return float(attrs["multiply_adds"] + overhead.per_image + overhead.per_step / attrs["config"]["batch_size"])


class EpochCost:
    """A forecast of costs as natural logarithms, relative to the mean of the trials. `columns` [n, columns]; `work` [n] > 0, NaN where not known yet."""

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
        """Forecast the costs [m] of new points [m, columns], never above the highest cost of a trial."""
        return np.clip((columns - self._centre) @ self._slopes, *self._range)
