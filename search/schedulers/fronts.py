"""Successive halving for several objectives: a trial that reaches a rung is compared by dominance, not by its metric alone.

Trials at a rung are ordered by non-dominated layers, and within a layer so that those that continue cover it well (Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", 2021). Everything else works as with one objective.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import LEAST_AGREEMENT, NUM_PAIRS, Pausing, agreement
from winnow.search.settings import Settings

MOST_KEPT = 16
"""Number of orders of trials that are kept until an objective changes."""


class Standings:
    """The objectives of each trial besides the first one, and the order of trials by all of them.

    Args:
        settings: The settings of the search.
        rungs: The epochs at which trials are compared.
    """

    def __init__(self, settings: Settings, rungs: Iterable[int]) -> None:
        self._settings = settings
        self._attributes = {rung: settings.attributes(rung) for rung in rungs}
        self._names = {name for names in self._attributes.values() for name in names}
        self._figures: dict[int, dict[str, Any]] = {}
        self._places: dict[
            tuple[Any, ...], dict[int, int]
        ] = {}  # by the rung and its values; ranking 10,000 trials takes 0.1 s

    def note(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Add the objectives of a trial that are known now.

        Args:
            trial: Number of the trial.
            figures: Figures by the names of their attributes; those that are None or that no rung compares are ignored.
        """
        known = self._figures.setdefault(trial, {})
        new = {name: value for name, value in figures.items() if name in self._names and value is not None}
        if new.items() - known.items():
            known.update(new)
            self._places.clear()

    def metrics(self, rung: int, later: int, trials: Sequence[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the values of each further metric after two epochs, [trials] each, for the trials for which both are known.

        Args:
            rung: The first epoch.
            later: The other epoch.
            trials: Numbers of the trials.
        """
        for before, after in zip(self._attributes[rung], self._attributes[later], strict=True):
            if before != after:  # a cost has one value for all epochs
                figures = [self._figures.get(trial, {}) for trial in trials]
                both = [(each[before], each[after]) for each in figures if before in each and after in each]
                yield np.array([first for first, _ in both]), np.array([second for _, second in both])

    def places(self, rung: int, values: Mapping[int, float]) -> dict[int, int]:
        """Return the place of each trial in the order by dominance, from 0.

        The result is kept and must not be changed.

        Args:
            rung: Epoch of the rung.
            values: The first objective of each trial after this epoch, by its number.
        """
        key = (rung, *values.items())
        if key not in self._places:
            if len(self._places) == MOST_KEPT:
                self._places.clear()
            trials, names = list(values), self._attributes[rung]
            known = [self._figures.get(trial, {}) for trial in trials]
            rows = [[values[trial], *map(figures.get, names)] for trial, figures in zip(trials, known, strict=True)]
            self._places[key] = {trials[index]: place for place, index in enumerate(self._settings.ranking(rows))}
        return self._places[key]


class FrontAsha(Asha):
    """Successive halving by dominance that stops trials.

    As with one objective, one trial in `reduction_factor` continues, and at least one. So with fewer than 2 x `reduction_factor` trials at
    a rung a trial continues only if it is the first of the order: the best one by the first objective.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
        self._objectives = Standings(settings, self.rungs)

    def note_figures(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Note objectives of a trial, by which it is compared with others.

        Args:
            trial: Number of the trial.
            figures: Figures by attribute, such as `multiply_adds` or `validation_macro_f1@3`; see `Settings.attributes`.
        """
        self._objectives.note(trial, figures)

    def num_better(self, trial: int, epoch: int) -> int:
        """Return how many of the trials at a rung come before this one in the order by dominance.

        Args:
            trial: Number of the trial.
            epoch: Epoch of the rung, from 1.
        """
        return self._objectives.places(epoch, self._values[epoch])[trial]


class FrontPausing(Pausing):
    """Successive halving by dominance that pauses trials."""

    def __init__(self, settings: Settings) -> None:
        halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
        super().__init__(*halving, settings.pauses_early)
        self._objectives = Standings(settings, [*self.rungs, settings.max_epochs])

    def note_figures(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Note objectives of a trial, by which it is compared with others.

        Args:
            trial: Number of the trial.
            figures: Figures by attribute, such as `multiply_adds` or `validation_macro_f1@3`; see `Settings.attributes`.
        """
        self._objectives.note(trial, figures)

    def _others_agree(self, rung: int, next_epoch: int, trials: Sequence[int]) -> bool:
        """Return whether the order of trials by each further metric agrees with that at a later epoch. A cost does not change."""
        for at_rung, at_next in self._objectives.metrics(rung, next_epoch, trials):
            if len(at_rung) >= NUM_PAIRS and agreement(at_rung, at_next) < LEAST_AGREEMENT:
                return False
        return True

    def _standings(self, rung: int, trials: Collection[int], values: dict[int, float]) -> dict[int, int]:
        """Return, for each trial whose last rung this is, how many of `values` come before its own."""
        waiting = self._at_their_last(rung, trials, values)
        places = self._objectives.places(rung, values) if waiting else {}
        return {trial: places[trial] for trial in waiting}
