"""Shows everything about one trial, in the terminal or as a plain dict."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import yaml
from rich import box
from rich.table import Table

from winnow.reports.reading.run import retraining_stem
from winnow.reports.statuses import STATUS_WORDS
from winnow.reports.tables.candidates import same_config
from winnow.reports.tables.front import columns_of_tests
from winnow.reports.text import wording
from winnow.reports.visible import rich_text
from winnow.spaces.epoch_figures import in_words, name_on_test_images
from winnow.spaces.errors import InputError
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.reports.run_data import RunData

Row = dict[str, Any]
FACTS = (
    "status",
    "source",
    "reason",
    "objective",
    "best_objective",
    "best_epoch",
    "num_epochs",
    "rung",
    "audit_objective",
    "started",
    "ended",
)
VERDICTS = {"continue": "go"}
"""Shorter words for decisions at a rung."""
OBJECTIVES = ("objective", "best_objective", "audit_objective")
COSTS = ("train_seconds", "images_per_second", "num_parameters", "multiply_adds", "latency_ms", "epoch_seconds")


def trial_facts(run: RunData, number: int) -> Row:
    """Collect everything about one trial.

    Args:
        run: The run.
        number: Number of the trial.

    Returns:
        The row of `trials` with the config as a dict, the rows of its `epochs` in the search, and the rows of `retrains` of its config,
        which may have been retrained as that of another repeat.

    Raises:
        InputError: There is no such trial.
    """
    trials = run.trial_rows()
    rows = {row["trial"]: row for row in trials}
    if number not in rows:
        known = f"its trials are 0 to {max(rows)}" if rows else "it has no trials yet"
        raise InputError(f"--trial {number}: no such trial in {run.path}; {known}")
    row, epochs = rows[number], run.epochs_of_trial(number)
    same = {other["trial"] for other in same_config(run, trials, number)}
    retrains = [line for line in run.retrain_rows() if line["trial"] in same]
    return row | {"config": row["config"] and json.loads(row["config"]), "epochs": epochs, "retrains": retrains}


def show_trial(
    run: RunData,
    console: Console,
    number: int,
    prints_of: Callable[[int, str | None], str | None] = lambda trial, retraining: None,
) -> None:
    """Print the result of `trial_facts`.

    Args:
        run: The run.
        console: Console to print to.
        number: Number of the trial.
        prints_of: Returns the place of what a model printed, given the number of the trial, and for a retraining its
            `retraining_stem`; None if there is none. Default: no place is named.
    """
    facts = trial_facts(run, number)
    console.print(f"[bold]trial {number}[/bold] of {rich_text(run.name)}")
    for key in (*FACTS, *(name for name in run.further if name not in COSTS), *COSTS):
        if facts[key] is not None:
            console.print(f"{key:<17} {rich_text(_fact(run, key, facts[key]))}", highlight=False)
    _name_prints(console, prints_of(number, None))
    if facts["error"]:
        console.print(f"[red]error[/red]\n{rich_text(facts['error'].strip())}", highlight=False)
    if facts["epochs"]:
        console.print(_epoch_table(run, facts["epochs"]))
        if (facts["config"] or {}).get("weights", "last") != "last":
            console.print(wording.own_values_text("A line"), highlight=False)
    if warning := wording.one_class_trial(run, facts):
        console.print(warning, highlight=False)
    for line in facts["retrains"]:
        whose = "" if line["trial"] == number else f" as the config of trial {line['trial']}"
        console.print(f"retrained{whose}, seed {line['seed']}: {_result(run, line)}", highlight=False)
        stem = retraining_stem(line["trial"], line["seed"], line["baseline"])
        _name_prints(console, prints_of(line["trial"], stem))
    if facts["retrains"]:
        retrained = {line["trial"] for line in facts["retrains"]}
        warnings = [wording.one_class_warning(row) for row in run.winner_rows() if row["trial"] in retrained]
        for text in filter(None, [wording.largest_class_text(run, "test"), *warnings]):
            console.print(text, highlight=False)
    if facts["config"]:
        console.print("\n[bold]config[/bold]")
        console.print(rich_text(yaml.safe_dump(facts["config"], sort_keys=False)), highlight=False, end="")


def _name_prints(console: Console, place: str | None) -> None:
    """Name the file with what a model printed in a training, if there is one."""
    if place is not None:
        console.print(f"{'printed':<18}{rich_text(place)}", highlight=False)


def _fact(run: RunData, key: str, value: Any) -> str:
    if key in OBJECTIVES:
        return f"{wording.objective_name(run)} {wording.objective_text(run, value)}"
    return wording.figure_text(key, value) if key in run.further and key not in COSTS else value_text(value)


def _result(run: RunData, line: Row) -> str:
    """Describe how a retraining ended, by the metrics among its objectives and the accuracy, on the test images."""
    if line["status"] != TrialStatus.COMPLETED:
        return str(STATUS_WORDS[line["status"]])
    tested = dict.fromkeys([name_on_test_images(run.objective), *columns_of_tests(run)])
    return ", ".join(f"{wording.figure_words(name)} {wording.figure_text(name, line[name])}" for name in tested)


def value_text(value: Any) -> str:
    """Format a value of a column of `trials`.

    Args:
        value: The value, which may be a time.
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if hasattr(value, "year") else str(value)


def _epoch_table(run: RunData, epochs: list[Row]) -> Table:
    """Return a table with one line per epoch. An objective other than loss or accuracy comes first, instead of the training accuracy."""
    majority = wording.largest_class_text(run, "validation")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=majority or None, caption_justify="left")
    other = run.objective not in ("validation_loss", "validation_accuracy")
    first = (
        ["\n".join(in_words(run.objective.removeprefix("validation_")).split()), "loss"]
        if other
        else ["loss", "accuracy"]
    )
    for name in ("epoch", *first, "val loss", "val acc", "lr", "s", "rung"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in epochs:
        verdict = (
            ""
            if row["rung"] is None
            else f"{row['rung']} {VERDICTS.get(row['decision'], row['decision'] or '')}".rstrip()
        )
        loss = wording.number(row["train_loss"])
        if other:
            figures = (wording.objective_text(run, row[run.objective]), loss)
        else:
            figures = (loss, wording.percent(row["train_accuracy"]))
        checked = (wording.number(row["validation_loss"]), wording.percent(row["validation_accuracy"]))
        pace = (_short(row["lr"]), _short(row["wall_seconds"]))
        table.add_row(str(row["epoch"]), *figures, *checked, *pace, verdict)
    return table


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"
