"""The commands that search and retrain: run, search, resume, extend, retrain."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from winnow.search.cli.common import DONE, FAILED, Options, execution, load_space, settings_of
from winnow.search.cli.complete import complete_run
from winnow.search.cli.options import (
    SettingsCommand,
    change_options,
    data_options,
    device_options,
    events_as_json,
    extension_options,
    log_option,
    run_options,
    search_options,
    space_options,
)
from winnow.search.cli.trust import check_run, check_space, trust_option
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from winnow.search.storage.run_folder import RunFolder
    from winnow.search.study.amendments import RunChanges


@click.command(cls=SettingsCommand, settings="RunOptions")
@space_options
@run_options
@search_options
@data_options
@device_options
@log_option
@events_as_json
def run(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Search SPACE, retrain the winners, and write the report."""
    from winnow.search.ray_backend.session import ray_kept

    with ray_kept():
        folder, code = _search(space, overrides, options, then_retrain=True)
        if code == DONE:
            code = _retrain(folder, options)
    return _finish(folder, code, options, retrained=True)


@click.command(cls=SettingsCommand, settings="SearchOptions")
@space_options
@run_options
@search_options
@data_options
@device_options
@log_option
@events_as_json
def search(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Search SPACE in a new run folder, without retraining."""
    folder, code = _search(space, overrides, options)
    return _finish(folder, code, options)


@click.command()
@click.argument("run", shell_complete=complete_run)
@click.option(
    "--time-budget", metavar="TIME", help="Time limit of this start, such as 90s, 5m, 2h.  [default: the run's]"
)
@change_options
@data_options
@device_options
@log_option
@events_as_json
def resume(run: str, time_budget: str | None, **options: Any) -> int:
    """Continue a search that was interrupted, was killed or ran out of time, in a changed space if one is given.

    If `winnow run` started the run, its winners are then retrained, too.
    """
    from winnow.search.ray_backend.session import ray_kept

    with ray_kept():
        folder, code = _continue(run, _changes(options), time_budget, options)
        retrained = code == DONE and folder.then_retrain
        if retrained:
            code = _retrain(folder, options)
    return _finish(folder, code, options, retrained)


@click.command()
@click.argument("run", shell_complete=complete_run)
@extension_options
@change_options
@data_options
@device_options
@log_option
@events_as_json
def extend(run: str, **options: Any) -> int:
    """Continue a search with more trials, time or epochs than requested; study.yaml keeps the earlier settings."""
    changes = _changes(options)
    if not changes.any:
        raise click.UsageError("give --trials, --time-budget or --max-epochs")
    return _finish(*_continue(run, changes, None, options), options)


@click.command(cls=SettingsCommand, settings="RetrainSettings")
@click.argument("run", shell_complete=complete_run)
@trust_option
@data_options
@device_options
@events_as_json
def retrain(run: str, **options: Any) -> int:
    """Retrain the best configs with fresh seeds, on train + validation by default, and test each network once."""
    from winnow.search.storage.run_folder import open_run

    folder = open_run(run)
    check_run(folder, options["trust_code"])
    return _finish(folder, _retrain(folder, options), options, retrained=True)


SEARCH_COMMANDS = (run, search, resume, extend, retrain)


def _search(
    space_name: str, overrides: tuple[str, ...], options: Options, then_retrain: bool = False
) -> tuple[RunFolder, int]:
    space = load_space(space_name, overrides)
    check_space(space, options["trust_code"])
    from winnow.search.cli.outcome import print_outcome
    from winnow.search.operations.searching import NewRun
    from winnow.search.operations.searching import search as run_search

    settings = settings_of(space, options)
    place = NewRun(options["runs_dir"], options["name"], options["storage"], options["warm_start"], then_retrain)
    with execution(options) as context:
        folder, outcome = run_search(space, settings, place, context)
    return folder, print_outcome(folder, outcome, options["as_json"])


def _continue(run: str, changes: RunChanges, time_budget: str | None, options: Options) -> tuple[RunFolder, int]:
    from winnow.search.cli.outcome import print_outcome
    from winnow.search.operations.searching import resume as resume_search
    from winnow.search.storage.run_folder import open_run

    folder = open_run(run)
    check_run(folder, options["trust_code"])
    if options["space"] is not None:
        check_space(load_space(options["space"], options["overrides"]), options["trust_code"])
    with execution(options) as context:
        outcome = resume_search(folder, changes, context, time_budget)
    return folder, print_outcome(folder, outcome, options["as_json"])


def _changes(options: Options) -> RunChanges:
    from winnow.search.study.amendments import RunChanges

    return RunChanges(
        trials=options.get("trials"),
        time_budget=options.get("time_budget"),
        max_epochs=options.get("max_epochs"),
        space=options["space"],
        overrides=options["overrides"],
        accepted=options["accept_space_change"],
    )


def _retrain(folder: RunFolder, options: Options) -> int:
    """Retrain, and return the exit code. After an interruption, print how to continue."""
    from winnow.search.cli.outcome import print_interrupted
    from winnow.search.operations.retraining import retrain as retrain_winners

    chosen = {name: options.get(name) for name in ("top", "seeds", "keep_validation")}
    try:
        with execution(options) as context:
            retrain_winners(folder, context, **chosen)
        return DONE
    except KeyboardInterrupt:
        return print_interrupted(folder, chosen, options["as_json"])
    except InputError:  # for example if there is no completed trial; the report shows why
        with suppress(InputError):  # on a full disk, or in a deleted folder, there can be no report
            _report(folder)
        raise


def _report(folder: RunFolder) -> None:
    from winnow.search.operations.viewing import report

    report(folder.path)


def _finish(folder: RunFolder, code: int, options: Options, retrained: bool = False) -> int:
    """Write the report, print the summary with the next command unless the command was interrupted, and return the exit code."""
    from winnow.search.cli.outcome import print_summary

    _report(folder)
    if code == DONE and retrained:
        print_summary(folder, options)
        from winnow import reports

        winners = [row for row in reports.winners_table(folder.path) if not row["baseline"]]
        if winners and not any(row["num_seeds"] for row in winners):
            click.echo(f"{folder.path}: no retraining was completed, so nothing was tested", err=True)
            return FAILED
    elif code == DONE:
        print_summary(folder, options)
    return code
