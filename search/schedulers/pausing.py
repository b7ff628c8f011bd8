"""Pausing instead of stopping: at every rung a trial hands its worker back, and may be resumed from its checkpoint later.

Who is resumed is for the sampler's forecast to say (`winnow.search.samplers.forecast`). Once no new trials may start, only those that successive
halving would promote are finished, so that a search ends.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Direction


class Pausing(Asha):
    """`judge` is False at each rung: pause. (A value that is not finite ends the trial, as with ASHA.)

    Configs to start from are trained to their end: what is known to be good is the measure of the others, and after an epoch nothing
    tells it from them.
    """

    def __init__(self, grace_epochs: int, reduction_factor: float, max_epochs: int, direction: Direction) -> None:
        super().__init__(grace_epochs, reduction_factor, max_epochs, direction)
        self._start: set[int] = set()

    def note_start(self, trial: int) -> None:
        self._start.add(trial)

    def judge(self, trial: int, epoch: int, value: float) -> bool:
        self.record(trial, epoch, value)
        return math.isfinite(value) and (epoch not in self._values or trial in self._start)

    def promoted(self, paused: Collection[int]) -> int | None:
        """The one that asynchronous successive halving would promote: the best of the best 1/`reduction_factor`, last rungs first."""
        for rung in reversed(self.rungs):
            standings = self._standings(rung, paused)
            best = min(standings, key=lambda trial: (standings[trial], trial), default=None)
            if best is not None and standings[best] < int(len(self._values[rung]) / self.reduction_factor):
                return best
        return None

    def worth_finishing(self, paused: Collection[int], at_least: int = 0) -> set[int]:
        """Those of the paused trials that are among the best 1/`reduction_factor` at the last rung they reached.

        If these are fewer than `at_least`, those that stand best at theirs as well.
        """
        worth: set[int] = set()
        for rung, values in self._values.items():
            allowed = max(1, int(len(values) / self.reduction_factor))
            worth |= {trial for trial, num_better in self._standings(rung, paused).items() if num_better < allowed}
        if len(worth) < at_least:
            shares = self.shares_better(set(paused) - worth)
            worth |= set(sorted(shares, key=lambda trial: (shares[trial], trial))[: at_least - len(worth)])
        return worth

    def shares_better(self, trials: Collection[int]) -> dict[int, float]:
        """Of the trials at the last rung that each has reached, the share that is better there; 1 if it reached none."""
        shares = dict.fromkeys(trials, 1.0)
        for rung, values in self._values.items():
            shares |= {trial: better / len(values) for trial, better in self._standings(rung, trials).items()}
        return shares

    def _standings(self, rung: int, trials: Collection[int]) -> dict[int, int]:
        """How many at the rung are better, for each of the trials whose last rung it is."""
        values = self._values[rung]
        sign = -1 if self.direction == "maximize" else 1
        best_first = sorted(sign * value for value in values.values())
        later = [self._values[other] for other in self.rungs if other > rung]
        return {
            trial: bisect_left(best_first, sign * values[trial])
            for trial in trials
            if trial in values and not any(trial in passed for passed in later)
        }
