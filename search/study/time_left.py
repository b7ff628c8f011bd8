"""Decides how much of a time budget is kept so that as many trials complete as winners are wanted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

MARGIN = 1.2
"""Time kept for the last trainings, as a multiple of that of their epochs: workers also start and save checkpoints."""
LARGEST_SHARE = 0.5
"""At most this share of the budget is kept; a budget too short for the wanted trials is not spent on the first ones alone."""


class TimeLeft:
    """The time that is left, beside the time that epochs take.

    Args:
        budget: The time budget in seconds; None: there is none.

    Attributes:
        seconds: Until the search ends; infinite before it is known.
        num_workers: Trials that run at the same time.
    """

    def __init__(self, budget: float | None) -> None:
        self.seconds = math.inf
        self.num_workers = 1
        self._most_kept = LARGEST_SHARE * (math.inf if budget is None else budget)
        self._latest: dict[int, float] = {}  # seconds of the latest epoch of each trial
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
        """Return whether so many completed trials need all the time that is left.

        Args:
            epochs_left: Epochs that each open trial still has to train. Those nearest to their end
                count.
            num_wanted: How many trials must still complete.
            max_epochs: Epochs of a trial that has not begun.

        Returns:
            False also before the first epoch, when nothing is known about the length of epochs.
        """
        if num_wanted <= 0 or not self._num_epochs or self.seconds > self._most_kept:
            return False
        not_begun = [max_epochs * self._mean] * num_wanted
        nearest = sorted([self._seconds_of(trial, epochs) for trial, epochs in epochs_left.items()] + not_begun)
        nearest = nearest[:num_wanted]
        in_rounds = max(nearest[-1], sum(nearest) / self.num_workers)
        return self.seconds <= MARGIN * in_rounds + self._mean  # a worker is free at the end of an epoch

    def in_time(self, trials: Collection[int], epochs_left: Mapping[int, int]) -> set[int]:
        """Return those of the trials that can complete in the time that is left.

        Args:
            trials: Numbers of the trials.
            epochs_left: Epochs that each trial still has to train; 0 for a trial that is not
                listed.
        """
        return {trial for trial in trials if self._seconds_of(trial, epochs_left.get(trial, 0)) <= self.seconds}

    @property
    def _mean(self) -> float:
        return self._sum / max(self._num_epochs, 1)

    def _seconds_of(self, trial: int, epochs: int) -> float:
        return epochs * self._latest.get(trial, self._mean)
