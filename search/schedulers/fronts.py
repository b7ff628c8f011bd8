"""Successive halving for several objectives: a trial that reaches a rung is compared by dominance, not by its metric alone.

Trials at a rung are ordered by non-dominated layers, and within a layer so that those that continue cover it well (Schmucker et al.,
"Multi-objective Asynchronous Successive Halving", 2021). Everything else works as with one objective.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from winnow.search.schedulers.asha import Asha
from winnow.search.schedulers.pausing import Pausing
from winnow.search.settings import Settings


class Costs:
    """The known costs of each trial."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._names = settings.costs
        self._figures: dict[int, dict[str, Any]] = {}

    def note(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Add the costs of a trial that are known now.

        Args:
            trial: Number of the trial.
            figures: Figures by name; those that are None or are not costs of the search are ignored.
        """
        known = self._figures.setdefault(trial, {})
        known.update({name: figures[name] for name in self._names if figures.get(name) is not None})

    def places(self, values: Mapping[int, float]) -> dict[int, int]:
        """Return the place of each trial in the order by dominance, from 0; `values` are the metrics by trial."""
        trials = list(values)
        costs = [[self._figures.get(trial, {}).get(name) for name in self._names] for trial in trials]
        order = self._settings.ranking(list(values.values()), costs)
        return {trials[index]: place for place, index in enumerate(order)}


class FrontAsha(Asha):
    """Successive halving by dominance that stops trials."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
        self._costs = Costs(settings)

    def note_figures(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Note the costs of a trial, by which it is compared with others.

        Args:
            trial: Number of the trial.
            figures: Figures by name, such as `multiply_adds` or `epoch_seconds`.
        """
        self._costs.note(trial, figures)

    def num_better(self, trial: int, epoch: int) -> int:
        """Return how many of the trials at a rung come before this one in the order by dominance.

        Args:
            trial: Number of the trial.
            epoch: Epoch of the rung, from 1.
        """
        return self._costs.places(self._values[epoch])[trial]


class FrontPausing(Pausing):
    """Successive halving by dominance that pauses trials."""

    def __init__(self, settings: Settings) -> None:
        halving = (settings.grace_epochs, settings.reduction_factor, settings.max_epochs, settings.direction)
        super().__init__(*halving, settings.pauses_early)
        self._costs = Costs(settings)

    def note_figures(self, trial: int, figures: Mapping[str, Any]) -> None:
        """Note the costs of a trial, by which it is compared with others.

        Args:
            trial: Number of the trial.
            figures: Figures by name, such as `multiply_adds` or `epoch_seconds`.
        """
        self._costs.note(trial, figures)

    def _standings(self, rung: int, trials: Collection[int], values: dict[int, float]) -> dict[int, int]:
        """Return, for each trial whose last rung this is, how many of `values` come before its own."""
        waiting = self._at_their_last(rung, trials, values)
        places = self._costs.places(values) if waiting else {}
        return {trial: places[trial] for trial in waiting}
