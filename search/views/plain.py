"""A view that prints plain lines, for logs and pipes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console

from winnow.reports.statuses import TrialStatus
from winnow.reports.text.config_words import describe
from winnow.search.views.view import View, clock

if TYPE_CHECKING:
    from winnow.search.study.trials import Event


class PlainView(View):
    """Prints one line per ended trial."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._work_started = time.monotonic()
        self._last: dict[int, tuple[int, float | None]] = {}  # last epoch and value of each running trial

    def on_event(self, event: Event) -> None:
        if event.kind == "epoch":
            self._last[event.number] = (event.record["epoch"], event.value)
        if event.kind == "audited":
            ended = f"{event.value:.4f}" if event.status == TrialStatus.COMPLETED else event.status
            self.message(f"trial {event.number}, stopped earlier, finished for the audit: {ended}")
        if event.kind != "ended" or self.ledger is None:
            return
        settings = self.ledger.settings
        epoch, last = self._last.pop(event.number, (0, None))
        reached = event.value if event.status == TrialStatus.COMPLETED else last
        after = f" after epoch {epoch}" if epoch and event.status != TrialStatus.COMPLETED else ""
        value = "" if reached is None else f" {settings.objective} {reached:.4f}"
        incumbent = " (best so far)" if event.number in self.ledger.best_trials else ""
        done = f"[{self.ledger.num_ended}/{settings.trials}]" if settings.trials else f"[{self.ledger.num_ended}]"
        self.message(f"{done} trial {event.number} {event.status}{after}{value}{incumbent}: {describe(event.config)}")
        if "error" in event.record:
            self.message(event.record["error"].strip().splitlines()[-1])
        if event.status == TrialStatus.INFEASIBLE:
            self.message(event.record["reason"])

    def step(self, text: str) -> None:
        self.message(text)

    def announce(self, text: str) -> None:
        self.message(text)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Print a line about the latest training, with an estimate of the time that is left.

        Args:
            done: Number of trainings that are done; 0 starts the clock and prints nothing.
            total: Number of all trainings.
            text: A line about the latest one. Default: empty.
        """
        if not done:
            self._work_started = time.monotonic()
            return
        left = (time.monotonic() - self._work_started) / done * (total - done)
        guess = f", about {clock(left)} left" if done < total else ""
        self.message(f"[{done}/{total}{guess}] {text}")
