"""The command line: parses, calls `winnow.search.operations.searching` and `reports`, prints. Heavy imports wait until a command needs them.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted (state kept).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from winnow.search.cli.options import (
    change_options,
    complete_run,
    complete_space,
    data_options,
    device_options,
    extension_options,
    json_option,
    log_option,
    retrain_options,
    run_options,
    search_options,
    space_options,
)
from winnow.search.cli.plan_command import plan
from winnow.search.cli.run_commands import COMMANDS
from winnow.search.cli.signals import sigterm_like_ctrl_c

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """The `winnow` command; exits the process."""
    from winnow.spaces.errors import InputError

    try:
        with sigterm_like_ctrl_c():
            code = cli.main(args=arguments, prog_name="winnow", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else DONE)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except InputError as error:
        click.echo(f"winnow: {error}", err=True)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, click.Abort):
        click.echo("winnow: interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="winnow-search", prog_name="winnow")
def cli() -> None:
    """Search image-classification networks with Ray Tune, Optuna and ASHA; retrain the winners honestly; report.

    SPACE is a name from `winnow spaces` or a YAML file; RUN is a run folder, or its name under runs/.
    """


@cli.command()
@space_options
@run_options
@search_options
@retrain_options
@data_options
@device_options
@log_option
@json_option
def run(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Search, then retrain the winners, then report."""
    from winnow.search.cli.outcome import tell_end
    from winnow.search.ray_backend.session import ray_kept

    with ray_kept():
        folder, code = _search(space, overrides, options)
        if code == DONE:
            _retrain(folder, options)
    _report(folder)
    if code == DONE:
        tell_end(folder, options)
    return code


@cli.command()
@space_options
@run_options
@search_options
@data_options
@device_options
@log_option
@json_option
def search(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Search a space in a new run folder."""
    from winnow.search.cli.outcome import tell_end

    folder, code = _search(space, overrides, options)
    _report(folder)
    if code == DONE:
        tell_end(folder, options, next_command=f"winnow retrain {folder.path}")
    return code


@cli.command()
@click.argument("run", shell_complete=complete_run)
@click.option("--time-budget", metavar="TIME", help="For this start.  [default: the run's own]")
@change_options
@data_options
@device_options
@log_option
@json_option
def resume(run: str, time_budget: str | None, **options: Any) -> int:
    """Go on with a search that was interrupted, killed, or out of time; in another space, if that is given."""
    return _go_on(run, _wishes(options), time_budget, options)


@cli.command()
@click.argument("run", shell_complete=complete_run)
@extension_options
@change_options
@data_options
@device_options
@log_option
@json_option
def extend(run: str, **options: Any) -> int:
    """Go on with a search for more trials, more time or more epochs than it was asked for; study.yaml keeps what it was."""
    wishes = _wishes(options)
    if not wishes.any:
        raise click.UsageError("say by how much: --trials, --time-budget or --max-epochs")
    return _go_on(run, wishes, None, options)


@cli.command()
@click.argument("run", shell_complete=complete_run)
@retrain_options
@data_options
@device_options
@json_option
def retrain(run: str, **options: Any) -> int:
    """Train the best configs again on train + validation with fresh seeds, and test each once."""
    from winnow.search.cli.outcome import tell_end
    from winnow.search.storage.run_folder import open_run

    folder = open_run(run)
    _retrain(folder, options)
    _report(folder)
    tell_end(folder, options)
    return DONE


@cli.command()
@click.argument("run", shell_complete=complete_run)
def report(run: str) -> int:
    """Write the tables and the HTML report of a run, or of a `train --output` folder; at any time, also while it goes on."""
    from winnow import reports
    from winnow.search.storage.run_folder import open_run

    click.echo(reports.write_training(run) if reports.is_training(run) else _report(open_run(run)))
    return DONE


@cli.command()
@space_options
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Folder for weights, curves and figures.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint in --output.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads.  [default: all CPUs]")
@click.option(
    "--fit-validation",
    is_flag=True,
    help="Train on the validation images too, as when a winner is retrained; then nothing selects, and the last epoch counts.",
)
@click.option(
    "--micro-batches",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Pieces in which a batch goes through the network: less memory.",
)
@data_options
def train(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Train one recipe (a space with nothing left open), without Ray, and test it once."""
    from winnow.search.operations.training import train_recipe
    from winnow.spaces import catalog

    source = _source(options, default=Path("data"))
    assert source is not None
    train_recipe(
        catalog.load(space, overrides),
        seed=options["seed"],
        output=options["output"],
        resume=options["resume"],
        device=options["device"],
        threads=options["threads"],
        source=source,
        console=_console(),
        fit_validation=options["fit_validation"],
        micro_batches=options["micro_batches"],
    )
    return DONE


@cli.command()
@click.argument("recipes", nargs=-1, required=True)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override any key of all of them.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="How many seeds each.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/bench-recipes"), show_default=True)
@data_options
@device_options
def bench_recipes(recipes: tuple[str, ...], overrides: tuple[str, ...], **options: Any) -> int:
    """Train RECIPES (names, or patterns such as 'cifar100-a*') as published, and set them beside the published figures.

    What has a result in --output is not run again, and what was cut short goes on.
    """
    from winnow.search.operations.reproduction import bench_recipes as bench

    source = _source(options, default=Path("data"))
    assert source is not None
    with _view(options) as view:
        table, num_failed = bench(
            recipes,
            overrides,
            seeds=options["seeds"],
            output=options["output"],
            source=source,
            devices=_devices(options),
            view=view,
            address=options["address"],
        )
    click.echo(f"table    {table}")
    return FAILED if num_failed else DONE


@cli.command()
@click.argument("space", required=False, shell_complete=complete_space)
@click.option("--set", "overrides", multiple=True, metavar="PATH=VALUE", help="Override any key.")
@click.option("--json-schema", is_flag=True, help="Print the JSON schema of spaces and recipes, for editors.")
def spaces(space: str | None, overrides: tuple[str, ...], json_schema: bool) -> int:
    """List the catalog, or print one space: its parameters, conditions and size."""
    if json_schema:
        import json

        from winnow.spaces.schema.json_schema import json_schema as schema

        click.echo(json.dumps(schema(), indent=2))
    elif space is None:
        from winnow.spaces import catalog

        width = max(len(name) for name, _ in catalog.listing())
        for name, description in catalog.listing():
            click.echo(f"{name:<{width}}  {description}")
        click.echo("\nOne of them: winnow spaces NAME. Search one: winnow run NAME")
    else:
        from winnow.spaces import catalog
        from winnow.spaces.describe import render

        loaded = catalog.load(space, overrides)
        if loaded.example().data.path is not None:
            from winnow.search.data.source import Source, check_on_images

            check_on_images(loaded, Source(Path("data")))
        _console().print(render(loaded))
    return DONE


for _command in (plan, *COMMANDS):
    cli.add_command(_command)


# --- what several commands do -------------------------------------------------------------------------------------------


def _search(space_name: str, overrides: tuple[str, ...], options: dict[str, Any]) -> tuple[Any, int]:
    from winnow.spaces import catalog

    space = catalog.load(space_name, overrides)
    for note in space.notes:
        click.echo(f"note: {note}", err=True)
    from winnow.search.operations import searching as operations
    from winnow.search.settings import SETTINGS, settings_for

    settings = settings_for(space, **{key: options[key] for key in SETTINGS if key in options})
    source = _source(options, default=Path("data"))
    assert source is not None
    with _view(options) as view:
        folder, outcome = operations.search(
            space,
            settings,
            runs_dir=options["runs_dir"],
            name=options["name"],
            source=source,
            devices=_devices(options),
            view=view,
            address=options["address"],
            storage=options["storage"],
            warm_start=options["warm_start"],
            log=options["log"],
        )
    from winnow.search.cli.outcome import tell_outcome

    return folder, tell_outcome(folder, outcome, options["as_json"])


def _go_on(run: str, wishes: Any, time_budget: str | None, options: dict[str, Any]) -> int:
    from winnow.search.cli.outcome import tell_end, tell_outcome
    from winnow.search.operations import searching as operations
    from winnow.search.storage.run_folder import open_run

    folder = open_run(run)
    with _view(options) as view:
        outcome = operations.resume(
            folder,
            devices=_devices(options),
            view=view,
            source=_source(options, default=None),
            time_budget=time_budget,
            wishes=wishes,
            address=options["address"],
            log=options["log"],
        )
    code = tell_outcome(folder, outcome, options["as_json"])
    _report(folder)
    if code == DONE:
        tell_end(folder, options, next_command=f"winnow retrain {folder.path}")
    return code


def _wishes(options: dict[str, Any]) -> Any:
    from winnow.search.study.amendments import Wishes

    return Wishes(
        trials=options.get("trials"),
        time_budget=options.get("time_budget"),
        max_epochs=options.get("max_epochs"),
        space=options["space"],
        overrides=options["overrides"],
        accepted=options["accept_space_change"],
    )


def _retrain(folder: Any, options: dict[str, Any]) -> None:
    from winnow.search.operations import searching as operations

    with _view(options) as view:
        operations.retrain(
            folder,
            devices=_devices(options),
            view=view,
            source=_source(options, default=None),
            top=options["top"],
            seeds=options["seeds"],
            address=options["address"],
        )


def _report(folder: Any) -> Path:
    from winnow import reports

    return reports.write(folder.path)


def _devices(options: dict[str, Any]) -> Any:
    from dataclasses import fields

    from winnow.search.resources.plan import DeviceOptions

    return DeviceOptions(**{field.name: options[field.name] for field in fields(DeviceOptions)})


def _source(options: dict[str, Any], default: Path | None) -> Any:
    """Where the data lies; None: where the run says."""
    from winnow.search.data.source import Source

    data_dir = options["data_dir"] or default
    return None if data_dir is None else Source(data_dir, options["download"])


def _view(options: dict[str, Any]) -> Any:
    from winnow.search.views.plain import make_view

    return make_view(_console(), options["quiet"], options.get("as_json", False))


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False)
