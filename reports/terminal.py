"""The run in the terminal: what was searched, how the trials ended, the best of them, the winners, where everything lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from reports import words
from reports.trials import FAILED_STATUSES, trial_rows
from reports.winners import winners_table

if TYPE_CHECKING:
    from rich.console import Console

    from reports.run import RunData

Row = dict[str, Any]


def show(run: RunData, console: Console, top: int = 10) -> None:
    """Print the run, with its `top` best trials. Reads no Arrow and no space, so that it answers at once."""
    rows = trial_rows(run)
    console.print(f"[bold]{escape(run.name)}[/bold]  {escape(words.searched_text(run))}")
    console.print(_state_line(run, rows))
    for note in run.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}")
    ranked = best_first(run, rows)
    if ranked:
        console.print(_trial_table(run, ranked[:top], len(ranked)))
    for row in [row for row in rows if row["status"] in FAILED_STATUSES][:top]:
        reason = escape(_first_line(row["error"]))
        console.print(f"[red]{words.STATUS_WORDS[row['status']]}[/red] trial {row['trial']}: {reason}")
    winners = winners_table(run, intervals_of_gain=False)
    if winners:
        console.print(_winner_table(winners))
    elif ranked:
        console.print("No winner was retrained yet, so no test accuracy is known.")
    _print_places(run, console)


def _state_line(run: RunData, rows: list[Row]) -> str:
    asked = run.settings.get("trials")
    of = f" of {asked} asked for" if asked and len(rows) < asked else ""
    seconds = sum(row["train_seconds"] for row in rows)
    epochs = sum(row["num_epochs"] for row in rows)
    text = words.counts_text(words.status_counts(rows))
    return f"{text}{of}; {words.plural(epochs, 'epoch')} in {words.duration(seconds)} of training"


def best_first(run: RunData, rows: list[Row]) -> list[Row]:
    """Trials with an objective: completed before the others, then by objective. A stopped trial's value is of fewer epochs."""
    known = [row for row in rows if row["objective"] is not None and row["status"] not in FAILED_STATUSES]
    sign = -1 if run.maximize else 1
    return sorted(known, key=lambda row: (row["status"] != "completed", sign * row["objective"], row["trial"]))


def _trial_table(run: RunData, rows: list[Row], total: int) -> Table:
    title = "Trials" if len(rows) == total else f"Best {len(rows)} of {total} trials"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column("status", no_wrap=True)
    table.add_column(words.objective_name(run), justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("parameters", overflow="fold")
    params = {trial.number: trial.params for trial in run.study_trials}
    for row in rows:
        table.add_row(
            str(row["trial"]),
            words.STATUS_WORDS[row["status"]],
            words.objective_text(run, row["objective"]),
            str(row["num_epochs"]),
            escape(words.parameters_text(params[row["trial"]])),
        )
    return table


def _winner_table(rows: list[Row]) -> Table:
    table = Table(title="Retrained, tested once", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rank", "trial", "test accuracy (95 %)", "seeds", "above baseline", "search - test", "weights"):
        table.add_column(name, justify="left" if name == "rank" else "right", no_wrap=name.startswith("test"))
    for row in rows:
        table.add_row(
            "baseline" if row["baseline"] else str(row["rank"]),
            "-" if row["trial"] is None else str(row["trial"]),
            words.interval_text(row["test_accuracy"], row["test_accuracy_low"], row["test_accuracy_high"]),
            f"{row['num_seeds']}" + (f" (+{row['num_failed']} failed)" if row["num_failed"] else ""),
            words.points(row["gain"]),
            words.points(row["gap"]),
            words.count(row["num_parameters"]),
        )
    return table


def _print_places(run: RunData, console: Console) -> None:
    report = run.path / "report" / "report.html"
    command = f"winnow report {run.path}"
    places = f"report   {report}" if report.is_file() else f"report   not written yet: {command}"
    for line in (places, f"tables   {report.parent}/*.parquet", f"study    {run.path / 'study.journal'}"):
        console.print(escape(line), soft_wrap=True, highlight=False)


def _first_line(text: str | None) -> str:
    return text.strip().splitlines()[0] if text and text.strip() else "no message was recorded"
