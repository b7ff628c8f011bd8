"""What a search says while it runs: one plain line per ended trial, JSON, or next to nothing. The live view is in `live.py`."""

from __future__ import annotations

import json
import math
import os
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console

from winnow.reports.text.wording import describe

if TYPE_CHECKING:
    from winnow.search.study.ledger import Ledger
    from winnow.search.study.trials import Event


def make_view(console: Console, quiet: bool, as_json: bool = False) -> View:
    if as_json:
        return JsonView(console)
    if quiet:
        return View(console)
    if console.is_jupyter:
        from winnow.search.views.notebook import NotebookView

        return NotebookView(console)
    if not console.is_terminal or console.is_dumb_terminal or in_ci():
        return PlainView(console)
    from winnow.search.views.live import LiveView

    return LiveView(console)


def in_ci() -> bool:
    """Whether the environment says that nobody watches: continuous integration sets `CI`, some with a terminal."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


class View:
    """Shows nothing but messages that matter; the base of the others."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.ledger: Ledger | None = None
        self.started = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was opened."""

    def watch(self, ledger: Ledger) -> None:
        """From now on, show this search."""
        self.ledger = ledger

    def on_event(self, event: Event) -> None:
        """Called for every event of the ledger, on the driver's thread."""

    def step(self, text: str) -> None:
        """What is being done now, before and after the search proper."""

    def progress(self, text: str) -> None:
        """One more piece of work is done."""

    def message(self, text: str) -> None:
        """Something that went wrong, or that a person should know."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)


class JsonView(View):
    """One JSON object per line on standard output: `started`, `epoch`, `paused`, `ended`, `message`, and what the commands add."""

    def on_event(self, event: Event) -> None:
        facts: dict[str, Any] = {"trial": event.number}
        if event.kind in ("started", "auditing"):
            facts["config"] = event.config
        elif event.kind == "epoch":
            facts |= event.record
        elif event.kind in ("ended", "audited"):
            facts |= {"status": event.status, "value": event.value}
            if "error" in event.record:
                facts["error"] = event.record["error"]
        self.emit(event.kind, **facts)

    def step(self, text: str) -> None:
        self.emit("message", text=text)

    def progress(self, text: str) -> None:
        self.emit("message", text=text)

    def message(self, text: str) -> None:
        self.emit("message", text=text)

    def emit(self, kind: str, **facts: Any) -> None:
        """NaN and infinity are null: JSON knows neither."""
        emit_json(self.console, {"event": kind, "time": round(time.time(), 3), **facts})


def emit_json(console: Console, facts: dict[str, Any]) -> None:
    finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}
    console.file.write(json.dumps(finite, default=str) + "\n")
    console.file.flush()


class PlainView(View):
    """One line per ended trial."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._last: dict[int, tuple[int, float | None]] = {}  # of running trials, their last epoch and its value

    def on_event(self, event: Event) -> None:
        if event.kind == "epoch":
            self._last[event.number] = (event.record["epoch"], event.value)
        if event.kind == "audited":
            ended = f"{event.value:.4f}" if event.status == "completed" else event.status
            self.message(f"trial {event.number}, stopped before, was let finish for the audit: {ended}")
        if event.kind != "ended" or self.ledger is None:
            return
        settings = self.ledger.settings
        epoch, last = self._last.pop(event.number, (0, None))
        reached = event.value if event.status == "completed" else last
        after = f" after epoch {epoch}" if epoch and event.status != "completed" else ""
        value = "" if reached is None else f" {settings.objective} {reached:.4f}"
        best = self.ledger.best
        incumbent = " (best so far)" if best is not None and best[0] == event.number else ""
        done = f"[{self.ledger.num_ended}/{settings.trials}]" if settings.trials else f"[{self.ledger.num_ended}]"
        self.message(f"{done} trial {event.number} {event.status}{after}{value}{incumbent}: {describe(event.config)}")
        if "error" in event.record:
            self.message(event.record["error"].strip().splitlines()[-1])

    def step(self, text: str) -> None:
        self.message(text)

    def progress(self, text: str) -> None:
        self.message(text)
