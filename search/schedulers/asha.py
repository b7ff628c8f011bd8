"""Asynchronous successive halving (Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020), stop-only.

A trial that reaches a rung continues if it is among the best 1/`reduction_factor` of all trials that have reached that rung
so far. The table of rungs is the whole state, and it can be rebuilt from the study at any time, so nothing here is saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from winnow.search.settings import Direction, rung_epochs


class Asha:
    """Decides which trials continue by one objective; it depends on neither Ray nor Optuna.

    `grace_epochs` >= 1 is the first rung, `reduction_factor` > 1 the ratio between rungs, `max_epochs` the longest training.
    """

    def __init__(self, grace_epochs: int, reduction_factor: float, max_epochs: int, direction: Direction) -> None:
        self.reduction_factor = reduction_factor
        self.direction = direction
        self.rungs = rung_epochs(grace_epochs, reduction_factor, max_epochs)
        self._values: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}  # rung -> trial -> value

    def record(self, trial: int, epoch: int, value: float) -> None:
        """Add a value that was judged before, when the rungs are rebuilt from a study.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
            value: The objective after this epoch.
        """
        if epoch in self._values and math.isfinite(value):
            self._values[epoch][trial] = value

    def judge(self, trial: int, epoch: int, value: float) -> bool:
        """Add a value, and return whether the trial continues. A value that is not finite always ends it.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
            value: The objective after this epoch.
        """
        if not math.isfinite(value):
            return False
        if not self.compares(trial, epoch):
            return True
        self.record(trial, epoch, value)
        # At least one always continues, and ties continue together: on small validation sets equal accuracies are common.
        return self.num_better(trial, epoch) < max(1, int(len(self._values[epoch]) / self.reduction_factor))

    def compares(self, trial: int, epoch: int) -> bool:
        """Return whether a trial is compared with others at an epoch, and so needs a value there.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
        """
        return epoch in self._values

    def num_better(self, trial: int, epoch: int) -> int:
        """Return how many of the trials at a rung are better than this one.

        Args:
            trial: Number of the trial.
            epoch: Epoch of the rung, from 1.
        """
        value = self._values[epoch][trial]
        return sum(1 for other in self._values[epoch].values() if self._is_better(other, value))

    def note_figures(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Note figures of a trial besides its objective; this scheduler ignores them.

        Args:
            trial: Number of the trial.
            figures: Figures by attribute, such as `multiply_adds`.
        """

    def note_start(self, trial: int) -> None:
        """Note that a trial is a start point (`start_from`); this scheduler ignores it."""

    def forget(self, trial: int) -> None:
        """Remove the values of an infeasible trial from the rungs, so that no trial is compared with it."""
        for values in self._values.values():
            values.pop(trial, None)

    def rung_index(self, epoch: int) -> int | None:
        """Return the index of the rung at an epoch; None if there is none."""
        return self.rungs.index(epoch) if epoch in self._values else None

    def table(self) -> dict[int, dict[int, float]]:
        """Return a copy of the rungs: rung (epochs) -> trial -> value."""
        return {rung: dict(values) for rung, values in self._values.items()}

    def _is_better(self, a: float, b: float) -> bool:
        return a > b if self.direction == "maximize" else a < b
