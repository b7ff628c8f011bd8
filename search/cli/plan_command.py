"""`winnow plan`: what a search will do and cost, without running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from winnow.search.cli.options import data_options, device_options, search_options, space_options

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.search.operations.planning import Estimate, SearchPlan
    from winnow.search.settings import Settings
    from winnow.spaces.space import Space


@click.command()
@space_options
@search_options
@data_options
@device_options
@click.option("--no-probe", is_flag=True, help="Nothing is trained: no estimate of time and memory.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def plan(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """What a search of SPACE will do: rungs, trials, epochs; and an estimate of time and memory from a short probe."""
    from dataclasses import fields, replace

    from rich.console import Console

    from winnow.search.data.source import Source, check_on_images
    from winnow.search.operations.planning import plan_search, probe
    from winnow.search.resources.plan import DeviceOptions
    from winnow.search.settings import SETTINGS, settings_for
    from winnow.spaces import catalog

    loaded = catalog.load(space, overrides)
    settings = settings_for(loaded, **{key: options[key] for key in SETTINGS if key in options})
    images = check_on_images(loaded, Source(options["data_dir"] or Path("data"), options["download"]))
    planned = plan_search(settings)
    planned = replace(planned, notes=[*planned.notes, *([images] if images else [])])
    if not options["no_probe"]:
        say = (lambda text: None) if options["quiet"] or options["as_json"] else click.echo
        devices = DeviceOptions(**{field.name: options[field.name] for field in fields(DeviceOptions)})
        source = Source(options["data_dir"] or Path("data"), options["download"])
        planned = replace(planned, estimate=probe(loaded, settings, planned, devices, source, options["address"], say))
    if options["as_json"]:
        click.echo(json.dumps(planned.to_dict()))
    else:
        _print(Console(highlight=False), loaded, settings, planned)
    return 0


def _print(console: Console, space: Space, settings: Settings, planned: SearchPlan) -> None:
    from rich import box
    from rich.table import Table

    console.print(
        f"[bold]{space.name}[/bold]: {settings.num_trials} trials of up to {settings.max_epochs} epochs, sampler {settings.sampler}, "
        f"rungs {settings.reduction_factor:g} apart"
    )
    table = Table(box=box.SIMPLE_HEAD, title="Trials that reach each rung", title_justify="left")
    for column in ("rung", "epoch", "trials", "range"):
        table.add_column(column, justify="right")
    for number, rung in enumerate(planned.rungs):
        name = "end" if rung is planned.rungs[-1] else str(number)
        table.add_row(name, str(rung.epoch), f"{rung.expected:.0f}", f"{rung.low:.0f} to {rung.high:.0f}")
    console.print(table)
    full = settings.num_trials * settings.max_epochs
    console.print(
        f"epochs   {planned.epochs:,.0f} ({planned.epochs_low:,.0f} to {planned.epochs_high:,.0f}), "
        f"{100 * planned.epochs / full:.0f} % of {full:,} without stopping"
    )
    for bracket in planned.brackets:
        rungs = ", ".join(map(str, bracket.rungs)) or "none: every trial trains to the end"
        used = "this search" if bracket.number == 0 else f"--grace-epochs {bracket.grace_epochs}"
        console.print(f"bracket  {bracket.number}: rungs {rungs}  ({used})")
    if planned.estimate is not None:
        _print_estimate(console, planned.estimate)
    for note in planned.notes:
        console.print(f"note     {note}")


def _print_estimate(console: Console, found: Estimate) -> None:
    from winnow.reports.text.wording import duration

    low, high = duration(found.seconds_low), duration(found.seconds_high)
    console.print(
        f"time     about {duration(found.seconds)} ({low} to {high}): {found.concurrent} at once, {found.start_seconds:.0f} s of start, "
        f"{found.epoch_seconds:.2g} s an epoch (mean of {found.num_probed} random configs), {found.largest_epoch_seconds:.2g} s for the largest"
    )
    console.print(
        f"memory   {found.memory_mb:,.0f} MB for the largest config ({found.memory_is}); {found.concurrent} trials at once"
    )
