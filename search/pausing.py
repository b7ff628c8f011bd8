"""Pausing instead of stopping: at every rung a trial hands its worker back, and may be resumed from its checkpoint later.

Who is resumed is for the sampler's forecast to say (`search.forecast`). Once no new trials may start, only those that successive
halving would promote are finished, so that a search ends.
"""

from __future__ import annotations

import math
from collections.abc import Collection

from search.asha import Asha


class Pausing(Asha):
    """`judge` is False at each rung: pause. (A value that is not finite ends the trial, as with ASHA.)"""

    def judge(self, trial: int, epoch: int, value: float) -> bool:
        self.record(trial, epoch, value)
        return math.isfinite(value) and epoch not in self._values

    def share_better(self, trial: int) -> float:
        """Of the trials that reached the last rung that this one reached, the share that is better there; 1 if it reached none."""
        for rung in reversed(self.rungs):
            if (value := self._values[rung].get(trial)) is not None:
                others = self._values[rung].values()
                return sum(1 for other in others if self.is_better(other, value)) / len(others)
        return 1.0

    def worth_finishing(self, paused: Collection[int]) -> set[int]:
        """Those of the paused trials that are among the best 1/`reduction_factor` at the last rung they reached."""
        worth: set[int] = set()
        for rung, values in self._values.items():
            allowed = max(1, int(len(values) / self.reduction_factor))
            for trial in set(paused) & values.keys():
                if any(trial in self._values[later] for later in self.rungs if later > rung):
                    continue
                num_better = sum(1 for other in values.values() if self.is_better(other, values[trial]))
                if num_better < allowed:
                    worth.add(trial)
        return worth
