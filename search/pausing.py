"""Pausing instead of stopping: at every rung a trial hands its worker back, and may be resumed from its checkpoint later.

Who is resumed is for the sampler's forecast to say (`search.forecast`). Once no new trials may start, only those that successive
halving would promote are finished, so that a search ends.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection

from search.asha import Asha


class Pausing(Asha):
    """`judge` is False at each rung: pause. (A value that is not finite ends the trial, as with ASHA.)"""

    def judge(self, trial: int, epoch: int, value: float) -> bool:
        self.record(trial, epoch, value)
        return math.isfinite(value) and epoch not in self._values

    def shares_better(self, trials: Collection[int]) -> dict[int, float]:
        """Of the trials at the last rung that each has reached, the share that is better there; 1 if it reached none."""
        sign = -1 if self.direction == "maximize" else 1
        best_first = {rung: sorted(sign * value for value in values.values()) for rung, values in self._values.items()}
        shares = {}
        for trial in trials:
            rung = next((rung for rung in reversed(self.rungs) if trial in self._values[rung]), None)
            if rung is None:
                shares[trial] = 1.0
            else:
                values = best_first[rung]
                shares[trial] = bisect_left(values, sign * self._values[rung][trial]) / len(values)
        return shares

    def worth_finishing(self, paused: Collection[int], at_least: int = 0) -> set[int]:
        """Those of the paused trials that are among the best 1/`reduction_factor` at the last rung they reached.

        If these are fewer than `at_least`, those that stand best at theirs as well.
        """
        worth: set[int] = set()
        for rung, values in self._values.items():
            allowed = max(1, int(len(values) / self.reduction_factor))
            for trial in set(paused) & values.keys():
                if any(trial in self._values[later] for later in self.rungs if later > rung):
                    continue
                num_better = sum(1 for other in values.values() if self.is_better(other, values[trial]))
                if num_better < allowed:
                    worth.add(trial)
        if len(worth) < at_least:
            shares = self.shares_better(set(paused) - worth)
            worth |= set(sorted(shares, key=lambda trial: (shares[trial], trial))[: at_least - len(worth)])
        return worth
