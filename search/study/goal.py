"""Decides what a search still needs to get the requested winners, and whether the remaining time allows more than that."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set

from winnow.search.settings import Settings
from winnow.search.study.tally import Tally
from winnow.search.study.time_left import TimeLeft
from winnow.search.study.trials import OpenTrial
from winnow.spaces.samplers import spec_of


class Goal:
    """Counts the trials that must still complete for as many winners as are wanted.

    Args:
        settings: The settings of the search.
        tally: The trials that have ended.
        open_trials: The trials that have not ended, by number. The ledger changes this mapping.
        paused: The numbers of the open trials that wait at a rung.
        time: The remaining time.
        num_not_begun: Returns how many more trials the search may begin.
    """

    def __init__(
        self,
        settings: Settings,
        tally: Tally,
        open_trials: Mapping[int, OpenTrial],
        paused: Set[int],
        time: TimeLeft,
        num_not_begun: Callable[[], int],
    ) -> None:
        self._settings = settings
        self._tally = tally
        self._open = open_trials
        self._paused = paused
        self._time = time
        self._time_is_needed = False
        self._pauses = spec_of(settings.sampler).pauses
        self._num_not_begun = num_not_begun

    def note_time_left(self, seconds: float, num_workers: int) -> None:
        """Update the time until the search must end.

        Once all of it is needed to complete the trials that are still wanted as winners, no trials beyond these begin until they
        have completed.

        Args:
            seconds: The rest of the time budget.
            num_workers: Number of trials that run at the same time.
        """
        self._time.seconds, self._time.num_workers = seconds, num_workers
        num_wanted = self.num_wanted
        self._time_is_needed = num_wanted > 0 and (
            self._time_is_needed or self._time.is_needed(self.epochs_left, num_wanted, self._settings.max_epochs)
        )

    @property
    def num_wanted(self) -> int:
        """Number of trials that must still complete, each with a config of its own."""
        return max(0, self._settings.retrain.num_wanted - len(self._tally.won))

    @property
    def epochs_left(self) -> dict[int, int]:
        """Remaining epochs of each open trial that may win, by its number.

        Of the repeats of a config only the one nearest to its end counts, and none if another one has completed.
        """
        left: dict[Hashable, tuple[int, int]] = {}
        for number, trial in self._open.items():
            config = trial.assignment.config
            candidate = self._tally.candidate_of(number, config)
            if not self._tally.may_win(number, config) or candidate in self._tally.won:
                continue
            epochs = config["epochs"] - trial.epoch
            if candidate not in left or epochs < left[candidate][1]:
                left[candidate] = (number, epochs)
        return dict(left.values())

    @property
    def num_missing(self) -> int:
        """Number of trials that are still missing if all running trials complete."""
        return max(0, self.num_wanted - len(self.epochs_left.keys() - self._paused))

    @property
    def enough_open(self) -> bool:
        """Whether the remaining time is reserved for open trials."""
        return self._time_is_needed and len(self.epochs_left) >= self.num_wanted

    def must_complete(self, number: int) -> bool:
        """Return whether a trial must continue although successive halving would stop it.

        The baseline must: retraining treats it as the winners are treated only if it completed in the search. Other trials must if
        too few others can still win. Too few others can win if no trial may begin any more, for lack of time, or if those that may begin do not suffice. Where
        trials pause, the second case is left to `num_missing`: paused trials are resumed at the end.
        """
        if not self._tally.may_win(number, self._open[number].assignment.config):
            return True
        left = self.epochs_left
        if number not in left:
            return False
        if self._time_is_needed:
            return len(left) <= self.num_wanted
        return not self._pauses and len(left) + self._num_not_begun() <= self.num_wanted
