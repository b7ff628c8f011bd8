"""Events as JSON lines, for programs (`--json`)."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from winnow.reports.values import finite_or_null
from winnow.search.views.view import View

if TYPE_CHECKING:
    from winnow.search.study.trials import Event


class JsonView(View):
    """Writes one JSON object per event: `started`, `epoch`, `paused`, `ended`, `progress`, `message`, and those that the commands add."""

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

    def announce(self, text: str) -> None:
        self.emit("message", text=text)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Write a `progress` event.

        Args:
            done: Number of trainings that are done; 0 at the beginning.
            total: Number of all trainings.
            text: A line about the latest one. Default: empty.
        """
        self.emit("progress", done=done, total=total, text=text)

    def message(self, text: str) -> None:
        self.emit("message", text=text)

    def emit(self, kind: str, **facts: Any) -> None:
        """Write one event; NaN and infinity become null, since JSON has neither."""
        event = {"event": kind, "time": round(time.time(), 3), **facts}
        self.console.file.write(json.dumps(finite_or_null(event), default=str, allow_nan=False) + "\n")
        self.console.file.flush()
