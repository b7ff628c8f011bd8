"""`winnow plan`, the command that forecasts the trials, epochs, time and memory of a search without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from winnow.search.cli.common import DONE, console, execution, settings_of
from winnow.search.cli.json_output import json_option, write_json
from winnow.search.cli.options import SettingsCommand, data_options, device_options, space_options
from winnow.search.cli.trust import check_space

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.search.operations.planning import Estimate, SearchForecast
    from winnow.search.settings import Settings
    from winnow.spaces.space import Space


@click.command(cls=SettingsCommand, settings="SearchOptions")
@space_options
@data_options
@device_options
@click.option("--no-probe", is_flag=True, help="Train nothing; time and memory are then not estimated.")
@json_option("Write one JSON object to standard output.")
def plan(space: str, overrides: tuple[str, ...], **options: Any) -> int:
    """Forecast the rungs, trials and epochs of a search of SPACE, and its time and memory from a short probe."""
    from winnow.search.operations.probing import plan_search
    from winnow.spaces import catalog

    loaded = catalog.load(space, overrides)
    check_space(loaded, options["trust_code"])
    settings = settings_of(loaded, options)
    say = (lambda text: None) if options["quiet"] or options["as_json"] else click.echo
    if options["no_probe"]:
        forecast = plan_search(loaded, settings, None, say)
    else:
        with execution({**options, "quiet": True, "as_json": False}) as context:
            forecast = plan_search(loaded, settings, context, say)
    if options["as_json"]:
        write_json(forecast.to_dict())
    else:
        _print(console(), loaded, settings, forecast)
    return DONE


def _print(paper: Console, space: Space, settings: Settings, forecast: SearchForecast) -> None:
    from rich import box
    from rich.table import Table

    from winnow.reports.visible import rich_text

    paper.print(
        f"[bold]{rich_text(space.name)}[/bold]: {settings.num_trials} trials of up to {settings.max_epochs} epochs, sampler {settings.sampler}, "
        f"rungs {settings.reduction_factor:g} apart"
    )
    table = Table(box=box.SIMPLE_HEAD, title="Trials that reach each rung", title_justify="left")
    for column in ("rung", "epoch", "trials", "range"):
        table.add_column(column, justify="right")
    for number, rung in enumerate(forecast.rungs):
        name = "end" if rung is forecast.rungs[-1] else str(number)
        table.add_row(name, str(rung.epoch), f"{rung.expected:.0f}", f"{rung.low:.0f} to {rung.high:.0f}")
    paper.print(table)
    full = settings.num_trials * settings.max_epochs
    paper.print(
        f"epochs   {forecast.epochs:,.0f} ({forecast.epochs_low:,.0f} to {forecast.epochs_high:,.0f}), "
        f"{100 * forecast.epochs / full:.0f} % of {full:,} without stopping"
    )
    for bracket in forecast.brackets:
        rungs = ", ".join(map(str, bracket.rungs)) or "none: every trial trains to the end"
        used = "this search" if bracket.number == 0 else f"--grace-epochs {bracket.grace_epochs}"
        paper.print(f"bracket  {bracket.number}: rungs {rungs}  ({used})")
    if forecast.estimate is not None:
        _print_estimate(paper, forecast.estimate)
    for note in forecast.notes:
        paper.print(f"note     {rich_text(note)}")


def _print_estimate(paper: Console, estimate: Estimate) -> None:
    from winnow.reports.text.wording import duration

    low, high = duration(estimate.seconds_low), duration(estimate.seconds_high)
    paper.print(
        f"time     about {duration(estimate.seconds)} ({low} to {high}): {estimate.concurrent} at once, {estimate.start_seconds:.0f} s of start, "
        f"{estimate.epoch_seconds:.2g} s an epoch (mean of {estimate.num_probed} random configs), {estimate.largest_epoch_seconds:.2g} s for the largest"
    )
    paper.print(
        f"memory   {estimate.memory_mb:,.0f} MB for the largest config ({estimate.memory_is}); {estimate.concurrent} trials at once"
    )
