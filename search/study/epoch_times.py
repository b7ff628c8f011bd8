"""Measures how long an epoch of each trial takes, if the search uses that figure, and compares it with the limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Settings
from winnow.search.study.record import Record

JUDGED_EPOCH = 2
"""The epoch after which a trial's epoch time is judged: the first epoch of a process also loads libraries."""


class EpochTimes:
    """Keeps the shortest epoch time of each trial until it is judged, then records it and passes it to the scheduler."""

    def __init__(self, settings: Settings, record: Record, scheduler: Asha) -> None:
        self._settings = settings
        self._record = record
        self._scheduler = scheduler
        self._shortest: dict[int, float] = {}

    def excess(self, number: int, report: Mapping[str, Any]) -> str | None:
        """Note an epoch, and describe by how much the trial's epochs exceed the limit of the search.

        Args:
            number: Number of the trial.
            report: The figures of the epoch, in order from the first one.

        Returns:
            The description; None if the limit is not exceeded, or if it is too early to tell.
        """
        if not self._settings.needs_epoch_seconds:
            return None
        figures = {"epoch_seconds": self._note(number, report)}
        self._record.write_attrs(number, **figures)
        self._scheduler.note_figures(number, figures)
        return self._settings.limits.exceeded(figures) if self._settings.limits else None

    def _note(self, number: int, report: Mapping[str, Any]) -> float | None:
        """Return the seconds of the trial's shortest epoch if the trial is judged after this epoch, otherwise None."""
        epoch, seconds = report["epoch"], report.get("wall_seconds")
        if seconds is None or epoch > JUDGED_EPOCH:
            return None
        shortest = self._shortest[number] = min(seconds, self._shortest.get(number, seconds))
        return shortest if epoch == JUDGED_EPOCH or report["last"] else None
