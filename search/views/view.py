"""The base of all views: what a person or program sees of a command while it runs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console

if TYPE_CHECKING:
    from winnow.search.study.ledger import Ledger
    from winnow.search.study.trials import Event


class View:
    """Base of all views. It shows only important messages, as with `--quiet`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.ledger: Ledger | None = None
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what `__enter__` opened, which is nothing here."""

    def watch(self, ledger: Ledger) -> None:
        """Show this search from now on."""
        self.ledger = ledger

    def on_event(self, event: Event) -> None:
        """Handle one event of the ledger; called on the driver's thread."""

    def step(self, text: str) -> None:
        """Report what is being done before and after the search itself."""

    def announce(self, text: str) -> None:
        """Report what the user needs later, such as the folder of the run; it stays on the screen."""

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show how many trainings outside a search are done.

        Args:
            done: Number of trainings that are done; 0 at the beginning.
            total: Number of all trainings.
            text: A line about the latest one. Default: empty.
        """

    def message(self, text: str) -> None:
        """Report something that went wrong, or that the user should know."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


def clock(seconds: float) -> str:
    """Return a duration as `0:09`, `12:34` or `2:03:04`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
