"""Prints how a command ended, as text or as JSON: the outcome of the search, the winners, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from winnow.search.cli.common import DONE, FAILED, INTERRUPTED, Options, console
from winnow.search.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from winnow.search.ray_backend.tune import Outcome


def print_outcome(folder: RunFolder, outcome: Outcome, as_json: bool = False) -> int:
    """Print how the search ended.

    If a second signal ended the search, the process exits here, since a user who signals twice does
    not want to wait for the report.

    Args:
        folder: The run.
        outcome: The reason why the search ended.
        as_json: Whether to write a JSON event instead of text. Default: False.

    Returns:
        The exit code: `DONE`, `FAILED` (all recent trials ended with the same error) or
        `INTERRUPTED`.

    Raises:
        SystemExit: The search was ended by a second signal.
    """
    if as_json:
        _emit("outcome", _outcome_facts(folder, outcome))
    elif outcome.bug:
        click.echo(
            f"{outcome.bug}\nThe last trials all ended with this error, so the search was stopped. Once it is fixed, continue with: "
            f"{folder.command('resume')}",
            err=True,
        )
    elif outcome.interrupted:
        click.echo(
            f"interrupted after {outcome.wall_seconds:.0f} s; nothing is lost. Continue with: {folder.command('resume')}",
            err=True,
        )
    else:
        why = "time budget used up" if outcome.out_of_time else "search complete"
        click.echo(f"{why} after {outcome.wall_seconds:.0f} s" + (f": {outcome.no_gain}" if outcome.no_gain else ""))
    code = FAILED if outcome.bug else INTERRUPTED if outcome.interrupted else DONE
    if outcome.at_once:
        raise SystemExit(code)
    return code


def print_interrupted(folder: RunFolder, options: Options, as_json: bool = False) -> int:
    """Print that retraining was interrupted and how to continue.

    Args:
        folder: The run.
        options: Options of `winnow retrain`, by name; None means not given.
        as_json: Whether to write a JSON event instead of text. Default: False.

    Returns:
        The exit code, `INTERRUPTED`.
    """
    from winnow.reports.text.next_step import retrain_options

    command = folder.command("retrain", *retrain_options(options))
    if as_json:
        _emit("outcome", {"run": folder.name, "path": str(folder.path), "status": "interrupted", "resume": command})
    else:
        text = "interrupted while retraining; finished trainings are kept"
        click.echo(f"{text}. Continue with: {command}", err=True)
    return INTERRUPTED


def print_summary(folder: RunFolder, options: Options) -> None:
    """Print the winners, the path of the report, and the next step with its command.

    Args:
        folder: The run, whose report has been written.
        options: Options of the command. With `quiet`, only the path of the report is printed; with
            `as_json`, a JSON event is written instead.
    """
    from winnow import reports

    file = folder.report / "report.html"
    if options["as_json"]:
        _emit("report", {"run": folder.name, "report": str(file), "winners": reports.winners_table(folder.path)})
    elif options["quiet"]:
        click.echo(file)
    else:
        reports.show(folder.path, console())


def _outcome_facts(folder: RunFolder, outcome: Outcome) -> dict[str, Any]:
    ended = {"failed": outcome.bug, "interrupted": outcome.interrupted, "out_of_time": outcome.out_of_time}
    status = next((name for name, it_is in ended.items() if it_is), "complete")
    return {
        "run": folder.name,
        "path": str(folder.path),
        "status": status,
        "wall_seconds": round(outcome.wall_seconds, 3),
        "error": outcome.bug,
        "no_gain": outcome.no_gain or None,
        "resume": None if status == "complete" else folder.command("resume"),
    }


def _emit(kind: str, facts: dict[str, Any]) -> None:
    from winnow.search.views.json_view import JsonView

    JsonView(console(as_json=True)).emit(kind, **facts)
