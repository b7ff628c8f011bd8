"""Notebook output: the live view as HTML in the cell, and a run as a summary with its winners."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, RenderableType

from winnow import reports
from winnow.reports.text import wording as words
from winnow.reports.text.config_words import describe
from winnow.reports.text.summary import sentences
from winnow.search.study.trials import Event
from winnow.search.views.live import LiveView

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

SECONDS_BETWEEN_DRAWINGS = 0.25
PAGE = "<pre style=\"font-family:Menlo,'DejaVu Sans Mono',consolas,monospace;line-height:1.25;background:none\">{code}</pre>"


class NotebookView(LiveView):
    """The live view of the terminal, redrawn in place as epochs end, without ipywidgets."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._display: Any = None
        self._drawn = 0.0

    def __enter__(self) -> Self:
        from IPython.display import HTML, display

        self._watch.start()
        self._display = display(HTML(self._html()), display_id=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        self._draw()

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        if time.monotonic() - self._drawn >= SECONDS_BETWEEN_DRAWINGS:
            self._draw()

    def step(self, text: str) -> None:
        super().step(text)
        self._draw()

    def announce(self, text: str) -> None:
        self.step(text)

    def progress(self, done: int, total: int, text: str = "") -> None:
        """Show a bar of the trainings, and the line about the latest one below it.

        Args:
            done: Number of trainings that are done; 0 at the beginning.
            total: Number of all trainings.
            text: A line about the latest one. Default: empty.
        """
        super().progress(done, total)
        self.step(text)

    def _draw(self) -> None:
        from IPython.display import HTML

        self._drawn = time.monotonic()
        if self._display is not None:
            self._display.update(HTML(self._html()))

    def _html(self) -> str:
        return as_html(self.render())


def as_html(picture: RenderableType, width: int = 100) -> str:
    """Return the output of rich as HTML without a style sheet.

    Args:
        picture: Anything that rich can print.
        width: Number of characters per line. Default: 100.
    """
    recorder = Console(record=True, width=width, file=io.StringIO(), force_jupyter=False, highlight=False)
    recorder.print(picture)
    return recorder.export_html(inline_styles=True, code_format=PAGE)


def run_html(path: Path) -> str:
    """Return a run as HTML: a summary, the table of its winners, and the path of its report."""
    from winnow.reports.html.templating import render

    data = reports.read_tables(path)
    report = path / "report" / "report.html"
    return render(
        "notebook_run.html",
        name=data.name,
        sentences=sentences(data),
        columns=("", "trial", f"{words.tested_name(data)} (95 %)", "gain over the baseline", "parameters", "config"),
        winners=[_winner_cells(data, row) for row in data.winner_rows()],
        report=str(report) if report.is_file() else None,
    )


def _winner_cells(run: RunData, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        "baseline" if row["baseline"] else f"winner {row['rank']}",
        "" if row["trial"] is None else str(row["trial"]),
        words.objective_interval(run, row),
        "" if row["objective_gain"] is None else words.difference_text(run, row["objective_gain"]),
        words.count(row["num_parameters"]),
        describe(json.loads(row["config"])),
    )
