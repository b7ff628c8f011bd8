"""The live view of a search in a terminal: progress, incumbent, rungs, running trials, failures, use of the machine."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.tables.expected_end import FEWEST_EPOCHS, ExpectedEnds
from winnow.reports.text.config_words import describe
from winnow.reports.text.wording import figure_words, plural
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Event
from winnow.search.views.system_usage import GpuUse, Use, Watch
from winnow.search.views.view import View, clock

SPARKS = "▁▂▃▄▅▆▇█"
STYLES = {
    "completed": "green",
    "stopped": "yellow",
    "diverged": "red",
    "out_of_memory": "red",
    "failed": "red",
    "lost": "red",
    "infeasible": "yellow",
    "timed_out": "red",
    "running": "cyan",
    "paused": "magenta",
    "auditing": "blue",
    "starting": "dim",
}
MAX_RUNNING, MAX_FAILURES = 12, 3
BAR = 24  # columns
SECONDS_OF_ENDS = 5.0
"""Seconds after which the forecasts of the final objectives are fitted again to the learning curves."""
FEWEST_ENDED = 3  # ended trials before the time left is estimated


@dataclass
class _Running:
    """One running trial: its last epoch, and the objective of the epochs that this start has seen."""

    config: dict[str, Any]
    epoch: int = 0
    values: list[float] = field(default_factory=list)


class LiveView(View):
    """Shows a search in a terminal, redrawn several times a second."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._trials: dict[int, _Running] = {}  # running ones, in the order of their start
        self._paused: dict[int, _Running] = {}
        self._curves: dict[int, list[float]] = {}  # the objective of all trials after epoch 1, 2, ...
        self._ends: ExpectedEnds
        self._ends_until = 0.0
        self._audits: set[int] = set()  # running trials that were stopped and finish for the audit
        self._failures: list[Text] = []
        self._ended_before = 0
        self._step = ""
        self._work: tuple[int, int] | None = None  # outside a search: (finished trainings, all trainings)
        self._work_started = self.started
        self._watch = Watch()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self._watch.start()
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        self._live.__exit__(kind, error, trace)

    def watch(self, ledger: Ledger) -> None:
        super().watch(ledger)
        self.started = time.monotonic()  # the time budget counts from here, too
        self._ended_before = ledger.num_ended
        self._curves = ledger.curves

    def on_event(self, event: Event) -> None:
        number = event.number
        if event.kind == "started":
            self._trials[number] = self._paused.pop(number, _Running(event.config))
        elif event.kind == "auditing":
            self._trials[number] = _Running(event.config)
            self._audits.add(number)
        elif event.kind == "audited":
            self._trials.pop(number, None)
            self._audits.discard(number)
        elif event.kind == "epoch" and number in self._trials:
            self._note_epoch(self._trials[number], event)
        elif event.kind == "paused":
            self._paused[number] = self._trials.pop(number)
        elif event.kind == "ended":
            self._trials.pop(number, None)
            self._paused.pop(number, None)
            self._note_end(event)

    def _note_epoch(self, trial: _Running, event: Event) -> None:
        trial.epoch = event.record["epoch"]
        if event.value is None or not math.isfinite(event.value):
            return
        trial.values.append(event.value)
        curve = self._curves.setdefault(event.number, [])
        if len(curve) == trial.epoch - 1:
            curve.append(event.value)

    def _expected_end(self, ledger: Ledger, number: int, trial: _Running) -> str:
        """Return the 90 % interval of the objective after the full training, as `0.912 to 0.934`; empty if nothing is known."""
        curve = self._curves.get(number, [])
        if len(curve) < FEWEST_EPOCHS or len(curve) != trial.epoch:
            return ""
        if time.monotonic() > self._ends_until:  # a fit to the curves of thousands of trials takes time
            settings, curves = ledger.settings, list(self._curves.values())
            self._ends = ExpectedEnds(curves, settings.max_epochs, settings.objective, settings.direction == "maximize")
            self._ends_until = time.monotonic() + SECONDS_OF_ENDS
        end = self._ends.of(curve)
        return "" if end is None else f"{end.low:.3f} to {end.high:.3f}"

    def _note_end(self, event: Event) -> None:
        if event.status in FAILED_STATUSES:
            lines = event.record.get("error", "").strip().splitlines()
            reason = f": {lines[-1]}" if lines else ""
            failure = Text(f"trial {event.number} {_words(event.status)}{reason}", style="red", no_wrap=True)
            self._failures = [*self._failures, failure][-MAX_FAILURES:]

    def step(self, text: str) -> None:
        self._step = text

    def announce(self, text: str) -> None:
        self.message(text)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show a bar of the trainings, and print the line about the latest one.

        Args:
            done: Number of trainings that are done; 0 at the beginning.
            total: Number of all trainings.
            text: A line about the latest one; nothing is printed if it is empty, which is the
                default.
        """
        if self._work is None:
            self._work_started = time.monotonic()
        self._work = (done, total)
        if text:
            self.message(text)

    def render(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self.ledger is not None:
            parts = [
                *self._progress(self.ledger),
                self._counts(self.ledger),
                self._best(self.ledger),
                Text(),
                self._rungs(self.ledger),
                Text(),
                self._running(self.ledger),
                *self._failures,
            ]
        if self._work is not None:
            parts = [self._work_line(*self._work)]
        foot = Text(f"{self._step}  " if self._step else "", style="dim", no_wrap=True, overflow="ellipsis")
        if self.ledger is None:
            foot.append(clock(time.monotonic() - self.started))
        parts += [foot, *usage_line(self._watch.latest)]
        title = "winnow" if self.ledger is None else f"winnow {self.ledger.folder.name}"
        return Panel(Group(*parts), title=Text(title), title_align="left", border_style="dim")

    def _progress(self, ledger: Ledger) -> list[RenderableType]:
        """Return a bar of the trials, and one of the time if there is a time budget."""
        settings, elapsed = ledger.settings, time.monotonic() - self.started
        grid = Table.grid(padding=(0, 1))
        left = self._seconds_left(ledger, elapsed)
        guess = f", about {clock(left)} left" if left else ""
        ended = f"{ledger.num_ended} of {settings.trials}" if settings.trials else str(ledger.num_ended)
        bar = _bar(ledger.num_ended, settings.trials) if settings.trials else Text()
        grid.add_row(Text("trials", style="dim"), bar, f"{ended} trials, {clock(elapsed)}{guess}")
        if (budget := settings.time_budget_seconds) is not None:
            time_left = "stopping" if elapsed > budget else f"{clock(budget - elapsed)} of {clock(budget)} left"
            grid.add_row(Text("time", style="dim"), _bar(elapsed, budget), time_left)
        return [grid]

    def _work_line(self, done: int, total: int) -> RenderableType:
        """Return a bar of the trainings outside a search, with the elapsed and the estimated remaining time."""
        elapsed = time.monotonic() - self._work_started
        guess = f", about {clock(elapsed / done * (total - done))} left" if 0 < done < total else ""
        grid = Table.grid(padding=(0, 1))
        grid.add_row(Text("trainings", style="dim"), _bar(done, total), f"{done} of {total}, {clock(elapsed)}{guess}")
        return grid

    def _seconds_left(self, ledger: Ledger, elapsed: float) -> float | None:
        """Return an estimate from the trials that ended since this start, never beyond the time budget; None if it is too early."""
        ended = ledger.num_ended - self._ended_before
        if ended < FEWEST_ENDED or ledger.settings.trials is None:
            return None
        left = elapsed / ended * (ledger.settings.trials - ledger.num_ended)
        budget = ledger.settings.time_budget_seconds
        return left if budget is None else max(0.0, min(left, budget - elapsed))

    def _counts(self, ledger: Ledger) -> Text:
        running = self._trials.keys() & set(ledger.started_trials)
        now = {"running": len(running), "paused": len(self._paused), "auditing": len(self._audits)}
        now["starting"] = len(self._trials) - len(running) - len(self._audits)
        text = Text(no_wrap=True, overflow="ellipsis")
        for status, count in (ledger.counts | now).items():
            if count:
                text.append(f"{count} {_words(status)}  ", style=STYLES[status])
        return text

    def _best(self, ledger: Ledger) -> Text:
        if ledger.best is None:
            return Text("best  no trial completed yet", style="dim")
        number, value = ledger.best
        repeats = f", mean of {plural(len(ledger.best_trials), 'repeat')}" if ledger.settings.repeats > 1 else ""
        return Text.assemble(
            ("best  ", "bold"),
            (f"{value:.4f}", "bold green"),
            f" {figure_words(ledger.settings.objective)}{repeats}, trial {number}",
            (f"\n      {describe(ledger.best_config)}", "dim"),
            no_wrap=True,
            overflow="ellipsis",
        )

    def _rungs(self, ledger: Ledger) -> RenderableType:
        """Return bars that show how many trials are compared at each rung, and how many have completed.

        A training that completes early counts at the later rungs too.
        """
        compared = {rung: len(values) for rung, values in ledger.scheduler.table().items()}
        compared[ledger.settings.max_epochs] = ledger.counts.get("completed", 0)
        best = max if ledger.settings.direction == "maximize" else min
        grid = Table.grid(padding=(0, 1))
        for rung, count in compared.items():
            values = ledger.scheduler.table().get(rung, {}).values()
            known = f", best {best(values):.4f}" if values else ""
            verb = "completed" if rung == ledger.settings.max_epochs else "compared"
            label = Text(f"epoch {rung}", style="dim", justify="right")
            grid.add_row(label, _bar(count, max(1, *compared.values())), f"{count} {verb}{known}")
        return grid

    def _running(self, ledger: Ledger) -> RenderableType:
        grid = Table.grid(padding=(0, 1), expand=True)
        for justify in ("left", "right", "left", "right", "left"):
            grid.add_column(justify=justify, no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_row(*(Text(heading, style="dim") for heading in ("", "epoch", "", "now", "to end at (90 %)", "")))
        for number, trial in list(self._trials.items())[:MAX_RUNNING]:
            curve = Text(sparkline(trial.values), style="cyan") if trial.values else Text("waiting", style="dim")
            last = f"{trial.values[-1]:.4f}" if trial.values else "-"
            epochs = f"{trial.epoch}/{trial.config['epochs']}"
            end = Text(self._expected_end(ledger, number, trial), style="cyan")
            grid.add_row(f"trial {number}", epochs, curve, last, end, Text(describe(trial.config), style="dim"))
        if len(self._trials) > MAX_RUNNING:
            grid.add_row("", "", "", "", "", f"and {len(self._trials) - MAX_RUNNING} more")
        return grid


def _bar(done: float, total: float) -> Text:
    """Return a bar of full and empty blocks, which is readable without colours too."""
    full = min(BAR, round(BAR * done / total)) if total else 0
    full = max(full, 1) if done else 0
    return Text.assemble(("█" * full, "cyan"), ("░" * (BAR - full), "dim"))


def _words(name: str) -> str:
    return name.replace("_", " ")


def usage_line(use: Use) -> list[Text]:
    """Return one line, such as `CPU 93 %   memory 5.1 of 23 GB   GPU 0 87 %, 10 of 80 GB`; no line if nothing is known."""
    parts = []
    if use.cpu is not None:
        parts.append(f"CPU {use.cpu:.0%}")
    if use.used_mb is not None and use.total_mb is not None:
        parts.append(f"memory {_gigabytes(use.used_mb, use.total_mb)}")
    parts += [f"GPU {gpu.index} {_gpu_text(gpu)}" for gpu in use.gpus]
    return [Text("   ".join(parts), style="dim", overflow="ellipsis")] if parts else []


def _gpu_text(gpu: GpuUse) -> str:
    busy = "" if gpu.busy is None else f"{gpu.busy:.0%}, "
    return busy + _gigabytes(gpu.used_mb, gpu.total_mb)


def _gigabytes(used: float, total: float) -> str:
    return f"{used / 1024:.1f} of {total / 1024:.0f} GB"


def sparkline(values: list[float], width: int = 20) -> str:
    """Return the last `width` values as block characters, scaled between their minimum and maximum.

    Args:
        values: The values, the oldest first.
        width: Largest number of characters. Default: 20.
    """
    recent = values[-width:]
    if not recent:
        return ""
    low, high = min(recent), max(recent)
    scale = (len(SPARKS) - 1) / (high - low) if high > low else 0.0
    return "".join(SPARKS[round((value - low) * scale)] for value in recent)
