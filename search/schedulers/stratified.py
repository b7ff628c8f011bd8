"""Successive halving within groups of similar cost: a trial at a rung is compared with those whose network costs about as much.

Large networks learn more slowly in the first epochs and often end higher; among all trials they are stopped for being large.
What this does on real images: `benchmarks/stratified.py`. Off by default.
"""

from __future__ import annotations

from collections.abc import Iterable

from search.schedulers.asha import Asha
from search.settings import Direction

MIN_STRATUM = 6
"""A smaller group is no measure (its best third would be one trial), and the trial is compared with the whole rung."""


class Stratified(Asha):
    """`num_strata` groups of equal size at each rung, by the multiply-adds of the trials that have reached it so far."""

    def __init__(
        self, grace_epochs: int, reduction_factor: float, max_epochs: int, direction: Direction, num_strata: int
    ) -> None:
        super().__init__(grace_epochs, reduction_factor, max_epochs, direction)
        self.num_strata = num_strata
        self._costs: dict[int, float] = {}  # trial -> multiply-adds of one image

    def note_cost(self, trial: int, multiply_adds: float) -> None:
        self._costs[trial] = multiply_adds

    def rivals(self, trial: int, epoch: int) -> Iterable[float]:
        reached = self._values[epoch]
        if trial not in self._costs:
            return reached.values()
        by_cost = sorted((other for other in reached if other in self._costs), key=lambda t: (self._costs[t], t))
        place = by_cost.index(trial) * self.num_strata // len(by_cost)
        group = [t for k, t in enumerate(by_cost) if k * self.num_strata // len(by_cost) == place]
        return [reached[t] for t in group] if len(group) >= MIN_STRATUM else reached.values()
