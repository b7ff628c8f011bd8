"""What a person sees while a search runs: a live view in a terminal, one plain line per ended trial elsewhere."""

from __future__ import annotations

import json
import math
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reports.words import describe
from search.ledger import Ledger
from search.study import Event

SPARKS = "▁▂▃▄▅▆▇█"
STATUS_STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "diverged": "red",
    "out_of_memory": "red",
    "failed": "red",
    "running": "cyan",
}


def make_view(console: Console, quiet: bool, as_json: bool = False) -> View:
    if as_json:
        return JsonView(console)
    if quiet:
        return View(console)
    return LiveView(console) if console.is_terminal else PlainView(console)


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
    """One JSON object per line on standard output: `started`, `epoch`, `ended`, `message`, and what the commands add."""

    def on_event(self, event: Event) -> None:
        facts: dict[str, Any] = {"trial": event.number}
        if event.kind == "started":
            facts["config"] = event.config
        elif event.kind == "epoch":
            facts |= event.record
        else:
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

    def on_event(self, event: Event) -> None:
        if event.kind != "ended" or self.ledger is None:
            return
        settings = self.ledger.settings
        value = "" if event.value is None else f" {settings.objective} {event.value:.4f}"
        best = self.ledger.best
        incumbent = " (best so far)" if best is not None and best[0] == event.number else ""
        done = f"[{self.ledger.num_ended}/{settings.trials}]"
        self.message(f"{done} trial {event.number} {event.status}{value}{incumbent}: {describe(event.config)}")
        if "error" in event.record:
            self.message(event.record["error"].strip().splitlines()[-1])

    def step(self, text: str) -> None:
        self.message(text)

    def progress(self, text: str) -> None:
        self.message(text)


class LiveView(View):
    """Redraws a few times a second: counts, incumbent, rungs as bars, running trials with their curves."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._running: dict[int, tuple[dict[str, Any], list[float]]] = {}
        self._incumbent: tuple[int, float, dict[str, Any]] | None = None
        self._step = ""
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def on_event(self, event: Event) -> None:
        if event.kind == "started":
            self._running[event.number] = (event.config, [])
        elif event.kind == "epoch" and event.value is not None and event.number in self._running:
            self._running[event.number][1].append(event.value)
        elif event.kind == "ended":
            self._running.pop(event.number, None)
            if self.ledger is not None and self.ledger.best is not None and self.ledger.best[0] == event.number:
                self._incumbent = (event.number, self.ledger.best[1], event.config)

    def step(self, text: str) -> None:
        self._step = text

    def progress(self, text: str) -> None:
        self.message(text)

    def render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self.ledger is not None:
            parts = [self._counts(), self._bar(), self._best(), self._rungs(), self._trials()]
        if self._step:
            parts.append(Text(self._step, style="dim"))
        return Panel(Group(*parts), title="winnow", title_align="left", border_style="dim")

    def _counts(self) -> Text:
        assert self.ledger is not None
        text = Text()
        for status, style in STATUS_STYLES.items():
            count = len(self.ledger.started_trials) if status == "running" else self.ledger.counts.get(status, 0)
            if count:
                text.append(f"{count} {status.replace('_', ' ')}  ", style=style)
        waiting = len(self.ledger.open_trials) - len(self.ledger.started_trials)
        if waiting:
            text.append(f"{waiting} waiting for their first epoch  ", style="dim")
        return text

    def _bar(self) -> RenderableType:
        assert self.ledger is not None
        settings = self.ledger.settings
        elapsed = time.monotonic() - self.started
        row = Table.grid(padding=(0, 1))
        budget = f" of {_clock(settings.time_budget_seconds)}" if settings.time_budget_seconds else ""
        row.add_row(
            ProgressBar(total=settings.trials, completed=self.ledger.num_ended, width=40),
            f"{self.ledger.num_ended}/{settings.trials} trials",
            Text(_clock(elapsed) + budget, style="dim"),
        )
        return row

    def _best(self) -> Text:
        if self._incumbent is None:
            return Text("no trial completed yet", style="dim")
        number, value, config = self._incumbent
        assert self.ledger is not None
        return Text.assemble(
            ("best  ", "bold"),
            (f"{value:.4f}", "bold green"),
            f" {self.ledger.settings.objective}, trial {number}: ",
            (describe(config), "dim"),
        )

    def _rungs(self) -> RenderableType:
        assert self.ledger is not None
        table = Table.grid(padding=(0, 1))
        most = max((len(values) for values in self.ledger.asha.table().values()), default=0)
        for rung, values in self.ledger.asha.table().items():
            bar = ProgressBar(total=max(1, most), completed=len(values), width=24)
            table.add_row(Text(f"rung at epoch {rung}", style="dim"), bar, f"{len(values)} trials")
        return table

    def _trials(self) -> RenderableType:
        table = Table(box=None, padding=(0, 1), show_header=False)
        assert self.ledger is not None
        for number, (config, values) in list(self._running.items())[:12]:
            epochs = f"{len(values)}/{config['epochs']}"
            last = f"{values[-1]:.4f}" if values else "-"
            curve = Text(sparkline(values)) if values else Text("waiting", style="dim")
            about = Text(describe(config), style="dim", no_wrap=True, overflow="ellipsis")
            table.add_row(f"trial {number}", epochs, curve, last, about)
        if len(self._running) > 12:
            table.add_row("", "", "", "", f"and {len(self._running) - 12} more")
        return table


def sparkline(values: list[float], width: int = 20) -> str:
    """The last `width` values as block characters, scaled between their minimum and maximum."""
    recent = values[-width:]
    if not recent:
        return ""
    low, high = min(recent), max(recent)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in recent)


def _clock(seconds: float | None) -> str:
    minutes, rest = divmod(int(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
