"""Measures what an epoch of each trial takes, where a search has a use for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JUDGED_EPOCH = 2
"""The epoch after which a trial is judged by its time: the first one of a process also loads libraries."""


class EpochTimes:
    """Keeps the shortest epoch of each trial until it is judged."""

    def __init__(self) -> None:
        self._shortest: dict[int, float] = {}

    def note(self, number: int, report: Mapping[str, Any]) -> float | None:
        """Note an epoch.

        Args:
            number: Number of the trial.
            report: The figures of the epoch, in order from the first one.

        Returns:
            The seconds of the trial's shortest epoch if it is judged after this one; else None.
        """
        epoch, seconds = report["epoch"], report.get("wall_seconds")
        if seconds is None or epoch > JUDGED_EPOCH:
            return None
        shortest = self._shortest[number] = min(seconds, self._shortest.get(number, seconds))
        return shortest if epoch == JUDGED_EPOCH or report["last"] else None
