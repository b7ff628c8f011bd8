"""Decides when further search is not worth its time because the incumbent has improved too little recently."""

from __future__ import annotations

from collections.abc import Mapping

from winnow.search.settings import Settings
from winnow.search.storage.json_lines import read_epochs
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.schema.search import price_of

RECENT = 0.7
"""Share of the training time, counted back from now, over which the improvement is measured. A search therefore trains for at
least 1 / (1 - RECENT) times as long as its first completed trial took. With smaller shares, chance decides when a search ends
(docs/measurements.md)."""
SECONDS_PER_HOUR = 3600.0


class GainRule:
    """The rule of `search.stop_when`. Time is the training time summed over all trials, so pauses of a search do not count.

    Args:
        settings: The settings of the search.
    """

    def __init__(self, settings: Settings) -> None:
        self.price = None if settings.stop_when is None else price_of(settings.stop_when)
        self._sign = 1.0 if settings.direction == "maximize" else -1.0
        self._seconds = 0.0
        self._steps: list[tuple[float, float]] = []  # (training time, value) whenever the incumbent changed

    def rebuild(self, folder: RunFolder, values: Mapping[int, float]) -> None:
        """Restore the state from what earlier starts of the search recorded.

        Args:
            folder: The run.
            values: The objectives of the completed trials inside the space, by number.
        """
        if self.price is None:
            return
        self._seconds, self._steps = 0.0, []
        for line in read_epochs(folder.epochs):
            if line["phase"] == "search":
                self.note_epoch(line)
                if line.get("last") and line["trial"] in values:
                    self.note_completed(values[line["trial"]])

    def note_epoch(self, line: Mapping[str, float]) -> None:
        """Count the time of an epoch."""
        self._seconds += line.get("wall_seconds") or 0.0

    def note_completed(self, value: float) -> None:
        """Remember the objective of a completed trial if it is the best so far."""
        if not self._steps or self._sign * value > self._sign * self._steps[-1][1]:
            self._steps.append((self._seconds, value))

    @property
    def reached(self) -> bool:
        """Whether the search should end."""
        recent = self.recent
        return self.price is not None and recent is not None and recent[0] <= self.price * recent[1]

    @property
    def recent(self) -> tuple[float, float] | None:
        """The improvement of the incumbent over the recent training time, and that time in hours; None if it is too early."""
        begin = (1 - RECENT) * self._seconds
        before = [value for seconds, value in self._steps if seconds <= begin]
        if not before:
            return None
        return self._sign * (self._steps[-1][1] - before[-1]), RECENT * self._seconds / SECONDS_PER_HOUR

    def __str__(self) -> str:
        if self.recent is None:
            return ""
        gain, hours = self.recent
        return (
            f"the best value improved by {gain:.4g} in the last {RECENT:.0%} of the training time ({hours:.3g} hours)"
        )
