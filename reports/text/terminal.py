"""Prints a run in the terminal: the space, the statuses of the trials, the best trials, the winners, the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.measure import Measurement
from rich.table import Table

from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.candidates import best_first
from winnow.reports.tables.front import columns_of_tests, front_rows
from winnow.reports.text import wording
from winnow.reports.text.baseline import protocol_differences
from winnow.reports.text.config_words import describe, short_winner
from winnow.reports.text.earlier_tests import earlier_tests_text, no_winner_text
from winnow.reports.text.memory import memory_sentence
from winnow.reports.text.next_step import next_step
from winnow.reports.text.one_trial import value_text
from winnow.reports.text.seeds import left_out, of_all, of_completed, repeats_text
from winnow.reports.text.written_advice import written_advice
from winnow.reports.visible import rich_text
from winnow.spaces.epoch_figures import is_share

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.reports.run_data import RunData

Row = dict[str, Any]
MAX_NUMBERS = 5
"""Largest number of trial numbers that are printed for one reason of failure."""
PRINTED = ("trial", "status", "objective", "num_epochs", "error", "config")
"""The columns of `trials` that are printed for chosen trials in any case; errors are printed below the table."""
MIN_WIDTH = 56
"""Width of the table of trials without further columns, if a config has 10 characters."""
MAX_HEAD = 14
"""Number of characters from which the name of a further column takes several lines."""
COLUMN_GAP = 3
"""Number of characters between two columns of a table."""
MIN_WINNER_COLUMNS = 4
"""Number of columns of the winners that are always printed: rank, trial, the objective on the test images, and seeds."""
STATUS_STYLES = {"completed": "green", "stopped": "yellow", "running": "cyan", "infeasible": "dim", "skipped": "dim"}


@dataclass(frozen=True)
class Chosen:
    """The trials that `--where` and `--sort` choose."""

    rows: Sequence[Row]
    """Rows of `trials`, in the order in which they are printed."""
    columns: Sequence[str]
    """The columns that the condition and the order name. They are printed too."""
    order: str | None
    """The column by which the rows are sorted, with a leading minus for descending order."""


def show(run: RunData, console: Console, top: int = 10, chosen: Chosen | None = None) -> None:
    """Print the run with its best trials and the next step. This needs neither Arrow nor the space of a run folder, so it responds at once.

    Args:
        run: The run.
        console: Console to print to.
        top: Maximum number of trials to print. Default: 10.
        chosen: Trials to print instead of the best ones, with nothing but their errors below. Default: the best ones.
    """
    rows = run.trial_rows()
    console.print(f"[bold]{rich_text(run.name)}[/bold]  {rich_text(wording.searched_text(run))}")
    console.print(_state_line(run, rows))
    for note in run.notes:
        console.print(f"[yellow]note:[/yellow] {rich_text(note)}")
    if chosen is not None:
        _print_chosen(run, console, chosen, top)
        return
    ranked = best_first(run, rows)
    if ranked:
        title = "Trials" if len(ranked) <= top else f"Best {top} trials"
        console.print(_trial_table(run, ranked[:top], f"{title}, by {wording.objective_name(run)}"))
        if warning := wording.one_class_trial(run, ranked[0]):
            console.print(f"[yellow]{rich_text(warning)}[/yellow]", highlight=False)
    _print_failures(console, rows, top)
    winners = run.winner_rows()
    if front := front_rows(run, rows, winners):
        console.print(_fitting_front_table(run, front[:top], len(front), console))
        for warning in wording.one_class_trials(run, ranked[1:], front):
            console.print(f"[yellow]{rich_text(warning)}[/yellow]", highlight=False)
    if learned := memory_sentence(run):
        console.print(rich_text(learned), highlight=False)
    if winners:
        console.print(_fitting_winner_table(run, winners, console))
        for row in winners:
            console.print(
                f"{_label(row):<9}{rich_text(short_winner(row, of_completed(run, row, 'num_epochs')))}",
                highlight=False,
                no_wrap=True,
                overflow="ellipsis",
            )
    elif ranked:
        console.print(rich_text(no_winner_text(run)))
    for text in _about_winners(run, winners):
        console.print(rich_text(text), highlight=False)
    for warning in filter(None, map(wording.one_class_warning, winners)):
        console.print(f"[yellow]{rich_text(warning)}[/yellow]")
    _print_places(run, console)
    if (step := next_step(run) or written_advice(run)) is not None:
        console.print(rich_text(step.text), highlight=False)
        console.print(f"next     {rich_text(step.command)}", highlight=False, soft_wrap=True)


def _about_winners(run: RunData, winners: list[Row]) -> list[str]:
    """Return sentences on what the figures of the winners are from and what puts them into perspective."""
    baseline = wording.without_baseline(run, winners) if winners else ""
    texts = [*left_out(run, winners), earlier_tests_text(run), repeats_text(winners), baseline]
    texts += protocol_differences(run, winners)
    return list(filter(None, [*texts, wording.choosing_text(run, winners)]))


def _numbers_text(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"trial {numbers[0]}"
    some = ", ".join(map(str, numbers[:MAX_NUMBERS]))
    more = f", and {len(numbers) - MAX_NUMBERS} more" if len(numbers) > MAX_NUMBERS else ""
    return f"trials {some}{more}"


def _print_failures(console: Console, rows: Sequence[Row], top: int) -> None:
    for (status, reason), numbers in list(wording.failures_by_reason(rows).items())[:top]:
        console.print(f"[red]{STATUS_WORDS[status]}[/red] {_numbers_text(numbers)}: {rich_text(reason)}")


def _print_chosen(run: RunData, console: Console, chosen: Chosen, top: int) -> None:
    """Print the chosen trials with the columns that chose them, and below why those that failed did."""
    if not chosen.rows:
        console.print("No trial matches.")
        return
    title = wording.plural(len(chosen.rows), "trial")
    if len(chosen.rows) > top:
        title = f"First {top} of {title}"
    if chosen.order:
        title += f", by {chosen.order.removeprefix('-')}"
    rows = chosen.rows[:top]
    console.print(_trial_table(run, rows, title, _fitting_columns(chosen.columns, rows, console.width)))
    _print_failures(console, chosen.rows, top)


def _fitting_columns(names: Sequence[str], rows: Sequence[Row], width: int) -> dict[str, int]:
    """Return the width of each column that is printed in addition: the first one, and the others as far as they fit."""
    fitting: dict[str, int] = {}
    room = width - MIN_WIDTH
    for name in names:
        if name not in PRINTED:
            needed = max(min(len(name), MAX_HEAD), *(len(_cell(row[name])) for row in rows))
            room -= needed + COLUMN_GAP
            if not fitting or room >= 0:
                fitting[name] = needed
    return fitting


def _state_line(run: RunData, rows: list[Row]) -> str:
    planned = run.settings.get("trials")
    planned_text = f" of {planned} requested" if planned and len(rows) < planned else ""
    seconds = sum(row["train_seconds"] for row in rows)
    epochs = sum(row["num_epochs"] for row in rows)
    text = wording.counts_text(wording.status_counts(rows))
    if run.outside:
        text += f", {len(run.outside)} of them outside the current space"
    return f"{text}{planned_text}; {wording.plural(epochs, 'epoch')} in {wording.duration(seconds)} of training"


def _trial_table(run: RunData, rows: Sequence[Row], title: str, columns: Mapping[str, int] | None = None) -> Table:
    """Return a table of trials. `winnow show RUN --trial N` prints everything about one.

    Args:
        run: The run.
        rows: Rows of `trials`.
        title: The title.
        columns: Width of each further column. If this is empty, configs are complete and take several lines. Default: one line per
            trial, cut to the width.
    """
    majority = wording.largest_class_beside_accuracy(run, "validation")
    if "validation_accuracy" in (columns or ()):
        majority = wording.largest_class_text(run, "validation")
    captions = [wording.about_values(rows, best_first=columns is None), majority]
    table = _captioned(title, captions, expand=True)
    table.add_column("trial", justify="right", min_width=5)
    table.add_column("status", min_width=max((len(STATUS_WORDS[row["status"]]) for row in rows), default=0))
    value = "value" if columns is None else "\n".join(wording.objective_name(run).split())
    table.add_column(value, justify="right", min_width=8)
    table.add_column("epochs", justify="right", min_width=6)
    for name, width in (columns or {}).items():
        table.add_column(rich_text(name), justify="right", overflow="fold", width=width)
    is_cut = columns is None or bool(columns)
    table.add_column("config", no_wrap=is_cut, overflow="ellipsis" if is_cut else "fold", ratio=1)
    for row in rows:
        style = STATUS_STYLES.get(row["status"], "red")
        table.add_row(
            str(row["trial"]),
            f"[{style}]{STATUS_WORDS[row['status']]}[/{style}]",
            wording.objective_text(run, row["objective"]),
            str(row["num_epochs"]),
            *(rich_text(_cell(row[name])) for name in columns or ()),
            rich_text(describe(json.loads(row["config"])) if row["config"] else str(row["reason"] or "-")),
        )
    return table


def _cell(value: Any) -> str:
    return "-" if value is None else value_text(value)


def _fitting_front_table(run: RunData, rows: Sequence[Row], num_rows: int, console: Console) -> Table:
    """Return the table of the front. The last columns are left out if they do not fit, so that no number is cut off."""
    figures = [*run.further, *columns_of_tests(run)]
    unlimited = console.options.update(max_width=10_000)
    while figures:
        table = _front_table(run, rows, num_rows, figures)
        if Measurement.get(console, unlimited, table).minimum <= console.width:
            return table
        figures.pop()
    return _front_table(run, rows, num_rows, figures)


def _front_table(run: RunData, rows: Sequence[Row], num_rows: int, figures: Sequence[str]) -> Table:
    title = f"Front of {wording.plural(num_rows, 'trial')}" + (
        f", the first {len(rows)}" if len(rows) < num_rows else ""
    )
    captions = [wording.largest_class_beside_accuracy(run, "validation")]
    if "validation_accuracy" in figures and not captions[0]:
        captions = [wording.largest_class_text(run, "validation")]
    if "test_accuracy" in figures and any(row["test_accuracy"] is not None for row in rows):
        captions.append(wording.largest_class_text(run, "test"))
    table = _captioned(title, captions)
    for name in ("rank", "trial", wording.objective_name(run), *map(wording.figure_words, figures)):
        table.add_column(name, justify="right")
    for row in rows:
        texts = (wording.figure_text(name, row[name]) for name in figures)
        table.add_row(str(row["rank"]), str(row["trial"]), wording.objective_text(run, row["objective"]), *texts)
    return table


def _fitting_winner_table(run: RunData, rows: list[Row], console: Console) -> Table:
    """Return the table of the winners. A column that does not fit is left out, so that no number is cut off."""
    tested = wording.tested_name(run) + ("\n(95 %)" if wording.intervals_over(run, rows) else "")
    columns = ["rank", "trial", tested, "seeds", "gain", "gap", "weights"]
    unlimited = console.options.update(max_width=10_000)
    while len(columns) > MIN_WINNER_COLUMNS:
        table = _winner_table(run, rows, columns)
        if Measurement.get(console, unlimited, table).maximum <= console.width:
            return table
        columns.pop()
    return _winner_table(run, rows, columns)


def _winner_table(run: RunData, rows: list[Row], columns: Sequence[str]) -> Table:
    unit = " in percentage points" if is_share(run.objective) else ""
    others = f"gain: {'above' if run.maximize else 'better than'} the baseline{unit}"
    if "gap" in columns:
        others += "; gap: search - test"
    over = wording.intervals_over(run, rows)
    captions = [f"95 %: interval {over}; {others}" if over else others]
    if run.objective != "validation_accuracy":
        texts = [f"{_label(row)} {wording.percent(row['test_accuracy'])}" for row in rows]
        captions.append(f"test accuracy: {', '.join(texts)}")
    captions.append(wording.largest_class_text(run, "test"))
    table = _captioned("Retrained, tested once", captions)
    for name in columns:
        table.add_column(name, justify="left" if name == "rank" else "right", no_wrap=True)
    for row in rows:
        cells = (
            "baseline" if row["baseline"] else str(row["rank"]),
            "-" if row["trial"] is None else str(row["trial"]),
            wording.objective_interval(run, row),
            of_all(row),
            _signed(run, row["objective_gain"]),
            _signed(run, row["objective_gap"]),
            wording.count(row["num_parameters"]),
        )
        table.add_row(*cells[: len(columns)])
    return table


def _captioned(title: str, captions: Iterable[str], expand: bool = False) -> Table:
    """Return an empty table with a title above and a line below it for each caption that is not empty."""
    return Table(
        title=title,
        caption="\n".join(filter(None, captions)) or None,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        expand=expand,
    )


def _label(row: Row) -> str:
    return "baseline" if row["baseline"] else f"winner {row['rank']}"


def _signed(run: RunData, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:+.2f}" if is_share(run.objective) else f"{value:+.3g}"


def _print_places(run: RunData, console: Console) -> None:
    report = run.path / "report" / "report.html"
    places = (
        f"report   {report}" if report.is_file() else f"report   not written yet: {wording.command('report', run.path)}"
    )
    for line in (places, f"tables   {report.parent}/*.parquet", f"study    {run.path / 'study.journal'}"):
        console.print(rich_text(line), soft_wrap=True, highlight=False)
