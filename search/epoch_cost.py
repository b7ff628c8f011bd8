"""What an epoch of a config costs: the multiply-adds of its network, which each trial tells when it starts; of a new config, a forecast.

Their logarithm is close to linear in the columns of `search.features`: depth, width, the image's size and the kind of network multiply.
Multiply-adds rather than seconds, so that a search stays a function of its seed and of what its trials gave, on any machine.
"""

from __future__ import annotations

import numpy as np

RIDGE = 0.3  # prior precision of a slope, in units of a log multiply-add

Array = np.ndarray


class EpochCost:
    """Natural logarithms, against the mean of the trials. `columns` [n, columns]; `multiply_adds` [n], NaN where not known yet."""

    def __init__(self, columns: Array, multiply_adds: Array) -> None:
        known = np.isfinite(multiply_adds)
        self._centre, self._slopes, self._range = np.zeros(columns.shape[1]), np.zeros(columns.shape[1]), (0.0, 0.0)
        cost = np.zeros(len(columns))
        if known.any():
            cost[known] = np.log(np.maximum(multiply_adds[known], 1.0))
            cost[known] -= cost[known].mean()
            self._centre = columns[known].mean(axis=0)
            inputs = columns[known] - self._centre
            precision = inputs.T @ inputs + RIDGE * np.eye(columns.shape[1])
            self._slopes = np.linalg.solve(precision, inputs.T @ cost[known])
            self._range = (float(cost[known].min()), float(cost[known].max()))
        self.of_trials = np.where(known, cost, self.of(columns))

    def of(self, columns: Array) -> Array:
        """Of new points, [m, columns] -> [m]; never beyond what a trial has cost."""
        return np.clip((columns - self._centre) @ self._slopes, *self._range)
