"""Counts how the trials of a search ended, and keeps the incumbent and the number of winners."""

from __future__ import annotations

from collections.abc import Hashable
from statistics import fmean
from typing import Any

from winnow.search.settings import Settings
from winnow.spaces.identity import identity
from winnow.spaces.shapes import ImageShape
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus
from winnow.spaces.winners import baseline_config, may_win


class Tally:
    """Counts trials as they end.

    Args:
        space: The space of the search.
        settings: Its settings.
        image_shape: (channels, height, width) of the images, by which configs are the same.

    Attributes:
        counts: Ended trials by status.
        completed: Numbers of the completed trials, in the order in which they ended.
        best: (number, objective) of the incumbent, the best completed trial inside the space; None if there is none yet. If the search
            repeats configs, the objective is the mean of the completed repeats, as in reports, and the number that of the first one.
        best_config: Its complete config; empty if there is none yet.
        best_trials: The numbers of the completed trials with this config.
        values: The objectives of the completed trials inside the space, by number.
        won: The candidates among the completed trials, from which retraining may choose; see `candidate_of`.
    """

    def __init__(self, space: Space, settings: Settings, image_shape: ImageShape) -> None:
        self.counts: dict[str, int] = {}
        self.completed: list[int] = []
        self.best: tuple[int, float] | None = None
        self.best_config: dict[str, Any] = {}
        self.best_trials: list[int] = []
        self.values: dict[int, float] = {}
        self.won: set[Hashable] = set()
        self._repeats = settings.repeats
        self._sign = 1 if settings.direction == "maximize" else -1
        self._baseline = baseline_config(space)
        self._image_shape = image_shape
        self._may_win: dict[int, bool] = {}
        self._candidates: dict[int, str] = {}
        self._repeated: dict[Hashable, list[int]] = {}
        self._configs: dict[Hashable, dict[str, Any]] = {}

    def add(self, number: int, status: TrialStatus, value: float | None, config: dict[str, Any]) -> None:
        """Count a trial that has ended.

        Args:
            number: Number of the trial.
            status: How it ended.
            value: Its objective; None if it has none or lies outside the space.
            config: Its complete config.
        """
        self.counts[status] = self.counts.get(status, 0) + 1
        if status != TrialStatus.COMPLETED:
            return
        self.completed.append(number)
        if value is None:
            return
        self.values[number] = value
        if self.may_win(number, config):
            self.won.add(self.candidate_of(number, config))
        if self._repeats > 1:
            self._add_repeat(number, config)
        elif self.best is None or self._sign * value > self._sign * self.best[1]:
            self.best, self.best_config, self.best_trials = (number, value), config, [number]

    def _add_repeat(self, number: int, config: dict[str, Any]) -> None:
        """Find the incumbent again: the mean of a config changes with each repeat, and so its rank."""
        self._configs.setdefault(self.candidate_of(number, config), config)
        self._repeated.setdefault(self.candidate_of(number, config), []).append(number)
        means = {key: fmean(self.values[each] for each in repeats) for key, repeats in self._repeated.items()}
        best = max(means, key=lambda key: self._sign * means[key])
        self.best_trials, self.best_config = sorted(self._repeated[best]), self._configs[best]
        self.best = (self.best_trials[0], means[best])

    def may_win(self, number: int, config: dict[str, Any]) -> bool:
        """Return whether a trial may become a winner.

        The answer is cached, because the ledger asks at every decision.

        Args:
            number: Number of the trial.
            config: Its complete config.
        """
        if number not in self._may_win:
            self._may_win[number] = may_win(config, self._baseline, self._image_shape)
        return self._may_win[number]

    def candidate_of(self, number: int, config: dict[str, Any]) -> Hashable:
        """Return what is equal for trials that are the same candidate: repeats of a config.

        Args:
            number: Number of the trial.
            config: Its complete config.
        """
        if self._repeats == 1:
            return number
        if number not in self._candidates:
            self._candidates[number] = identity(config, self._image_shape)
        return self._candidates[number]
