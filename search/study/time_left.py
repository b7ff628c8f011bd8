"""Decides how much of a time budget is reserved so that enough trials complete for the requested winners."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

MARGIN = 1.2
"""Time reserved for the last trainings, as a multiple of the time of their epochs: workers also start and save checkpoints."""
LARGEST_SHARE = 0.5
"""Largest share of the budget that is reserved. Without it, a budget too short for the wanted trials would go to the first ones alone."""


class TimeLeft:
    """Compares the remaining time with the time that epochs take.

    Args:
        budget: The time budget in seconds; None if there is none.

    Attributes:
        seconds: Seconds until the search ends; infinite until that is known.
        num_workers: Number of trials that run at the same time.
    """

    def __init__(self, budget: float | None) -> None:
        self.seconds = math.inf
        self.num_workers = 1
        self._most_kept = LARGEST_SHARE * (math.inf if budget is None else budget)
        self._latest: dict[int, float] = {}  # duration in seconds of the latest epoch of each trial
        self._sum, self._num_epochs = 0.0, 0

    def note_epoch(self, trial: int, wall_seconds: float) -> None:
        """Remember how long an epoch of a trial took.

        Args:
            trial: Number of the trial.
            wall_seconds: Duration of the epoch in seconds.
        """
        self._latest[trial] = wall_seconds
        self._sum, self._num_epochs = self._sum + wall_seconds, self._num_epochs + 1

    def is_needed(self, epochs_left: Mapping[int, int], num_wanted: int, max_epochs: int) -> bool:
        """Return whether all remaining time is needed to complete the wanted trials.

        It is not before the first epoch, when nothing is known about the duration of epochs.

        Args:
            epochs_left: Remaining epochs of each open trial. Only the trials nearest to their end
                count.
            num_wanted: Number of trials that must still complete.
            max_epochs: Epochs of a trial that has not begun.
        """
        if num_wanted <= 0 or not self._num_epochs or self.seconds > self._most_kept:
            return False
        not_begun = [max_epochs * self._mean] * num_wanted
        nearest = sorted([self._seconds_of(trial, epochs) for trial, epochs in epochs_left.items()] + not_begun)
        nearest = nearest[:num_wanted]
        in_rounds = max(nearest[-1], sum(nearest) / self.num_workers)
        return self.seconds <= MARGIN * in_rounds + self._mean  # a worker is free at the end of an epoch

    def in_time(self, trials: Collection[int], epochs_left: Mapping[int, int]) -> set[int]:
        """Return the trials that can complete in the remaining time.

        Args:
            trials: Numbers of the trials.
            epochs_left: Remaining epochs of each trial; 0 for a trial that is not listed.
        """
        return {trial for trial in trials if self._seconds_of(trial, epochs_left.get(trial, 0)) <= self.seconds}

    @property
    def _mean(self) -> float:
        return self._sum / max(self._num_epochs, 1)

    def _seconds_of(self, trial: int, epochs: int) -> float:
        return epochs * self._latest.get(trial, self._mean)
