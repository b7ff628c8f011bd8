"""Successive halving that pauses: at a rung a trial releases its worker, and may be resumed from its checkpoint later.

A trial pauses only at rungs that can be trusted: those at which the order of the trials agrees with their order at the next rung.
The sampler decides which paused trial is resumed (`winnow.search.samplers.forecast`). Once no new trials may start, only
those that successive halving would promote are finished, so that a search ends.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence

import numpy as np

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Direction, early_rungs

NUM_PAIRS = 5
"""Number of trials that must have passed a rung and the next one before the agreement of the two is measured."""
LEAST_AGREEMENT = 0.5
"""The smallest agreement at which a rung is trusted; 0 is chance, 1 the same order."""


class Pausing(Asha):
    """Successive halving that pauses trials.

    Besides the rungs of successive halving there are earlier ones, down to the first epoch, if `early` is true. An early rung is
    trusted only after its agreement with the next rung has been measured (with several objectives, that of each metric). The other rungs are trusted until a measurement shows
    too little agreement. While values are mostly noise, trials continue to the first rung whose order can be trusted.

    Start points (`note_start`) never pause, because other trials are compared with them.
    """

    def __init__(
        self, grace_epochs: int, reduction_factor: float, max_epochs: int, direction: Direction, early: bool = True
    ) -> None:
        super().__init__(grace_epochs, reduction_factor, max_epochs, direction)
        self._early = early_rungs(grace_epochs, reduction_factor) if early else []
        self.rungs = [*self._early, *self.rungs]
        self._values = {rung: {} for rung in self.rungs}
        self._max_epochs = max_epochs
        self._final_values: dict[int, float] = {}
        self._start: set[int] = set()

    def note_start(self, trial: int) -> None:
        self._start.add(trial)

    def record(self, trial: int, epoch: int, value: float) -> None:
        """Add a value that was judged before, when the rungs are rebuilt from a study.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
            value: The objective after this epoch.
        """
        super().record(trial, epoch, value)
        if epoch == self._max_epochs and math.isfinite(value):
            self._final_values[trial] = value

    def forget(self, trial: int) -> None:
        super().forget(trial)
        self._final_values.pop(trial, None)

    def judge(self, trial: int, epoch: int, value: float) -> bool:
        """Add a value, and return whether the trial continues. False: it pauses, or the value is not finite.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
            value: The objective after this epoch.
        """
        self.record(trial, epoch, value)
        return math.isfinite(value) and not self.compares(trial, epoch)

    def compares(self, trial: int, epoch: int) -> bool:
        """Return whether a trial is compared with others at an epoch, and so pauses there.

        Args:
            trial: Number of the trial.
            epoch: The epoch, from 1.
        """
        return epoch in self._values and trial not in self._start and self.is_trusted(epoch)

    def is_trusted(self, rung: int) -> bool:
        """Return whether the order of the trials at a rung agrees with that at the next rung."""
        index = self.rungs.index(rung)
        is_last = index + 1 == len(self.rungs)
        after = self._final_values if is_last else self._values[self.rungs[index + 1]]
        both = sorted(self._values[rung].keys() & after.keys())
        if len(both) < NUM_PAIRS:
            return rung not in self._early
        at_rung, at_next = ([values[trial] for trial in both] for values in (self._values[rung], after))
        next_epoch = self._max_epochs if is_last else self.rungs[index + 1]
        agrees = agreement(np.array(at_rung), np.array(at_next)) >= LEAST_AGREEMENT
        return agrees and self._others_agree(rung, next_epoch, both)

    def _others_agree(self, rung: int, next_epoch: int, trials: Sequence[int]) -> bool:
        """Return whether the order of trials by further objectives agrees with that at a later epoch; here there are none."""
        return True

    def promoted(self, paused: Collection[int], rivals: Collection[int] | None = None) -> int | None:
        """Return the trial that asynchronous successive halving would promote.

        Args:
            paused: The trials to choose from.
            rivals: The trials that they compete with. Default: all.

        Returns:
            The best of the paused trials that are among the best 1/`reduction_factor` at a rung. The last rung with such a
            trial decides; None if there is none at any rung.
        """
        for rung in reversed(self.rungs):
            values = self._values[rung]
            if rivals is not None:
                values = {trial: values[trial] for trial in rivals if trial in values}
            standings = self._standings(rung, [trial for trial in paused if trial in values], values)
            best = min(standings, key=lambda trial: (standings[trial], trial), default=None)
            if best is not None and standings[best] < int(len(values) / self.reduction_factor):
                return best
        return None

    def worth_finishing(self, paused: Collection[int], at_least: int = 0) -> set[int]:
        """Return the paused trials that should be trained to their end.

        Args:
            paused: Numbers of the paused trials.
            at_least: Number of trials to return at least, if that many are paused. Default: 0.

        Returns:
            Those among the best 1/`reduction_factor` at the last rung they reached. If these are fewer than `at_least`, also
            those of the others that have the smallest share of better trials at their last rung.
        """
        worth: set[int] = set()
        for rung, values in self._values.items():
            allowed = max(1, int(len(values) / self.reduction_factor))
            standings = self._standings(rung, paused, values)
            worth |= {trial for trial, num_better in standings.items() if num_better < allowed}
        if len(worth) < at_least:
            shares = self.shares_better(set(paused) - worth)
            worth |= set(sorted(shares, key=lambda trial: (shares[trial], trial))[: at_least - len(worth)])
        return worth

    def shares_better(self, trials: Collection[int]) -> dict[int, float]:
        """Return, for each trial, the share of the trials at its last rung that are better there; 1 if it reached none."""
        shares = dict.fromkeys(trials, 1.0)
        for rung, values in self._values.items():
            standings = self._standings(rung, trials, values)
            shares |= {trial: better / len(values) for trial, better in standings.items()}
        return shares

    def _standings(self, rung: int, trials: Collection[int], values: dict[int, float]) -> dict[int, int]:
        """Return, for each trial whose last rung this is, how many of `values` are better than its own."""
        sign = -1 if self.direction == "maximize" else 1
        best_first = sorted(sign * value for value in values.values())
        return {
            trial: bisect_left(best_first, sign * values[trial]) for trial in self._at_their_last(rung, trials, values)
        }

    def _at_their_last(self, rung: int, trials: Collection[int], values: dict[int, float]) -> list[int]:
        """Return those of the trials with a value here that have passed no later rung."""
        later = [self._values[other] for other in self.rungs if other > rung]
        return [trial for trial in trials if trial in values and not any(trial in passed for passed in later)]


def agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return how well two lists of values agree on the order of the same trials.

    Every pair of trials is weighted by its distance in `first`, so that the many near-duplicates of a search matter little.

    Args:
        first: One value per trial, [trials].
        second: The values of the same trials at another epoch, [trials].

    Returns:
        1 for the same order, -1 for the opposite order, 0 for no agreement, or if all values of `first` are equal.
    """
    gaps = first[:, None] - first
    total = np.abs(gaps).sum()
    return float((gaps * np.sign(second[:, None] - second)).sum() / total) if total else 0.0
