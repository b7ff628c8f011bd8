"""`winnow plan`: what a search will do and cost, without running it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.options import data_options, device_options, search_options, space_options

if TYPE_CHECKING:
    from rich.console import Console

    from search.devices import Devices
    from search.operations import Source
    from search.planning import Estimate, SearchPlan
    from search.settings import Settings
    from spaces.space import Space

NUM_PROBED = 6  # random configs, and the largest beside them
PROBE_SECONDS = 1.0  # of each


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

    from search.devices import Devices
    from search.operations import Source
    from search.planning import plan_search
    from search.settings import SETTINGS, settings_for
    from spaces import catalog

    loaded = catalog.load(space, overrides)
    settings = settings_for(loaded, **{key: options[key] for key in SETTINGS if key in options})
    planned = plan_search(settings)
    if not options["no_probe"]:
        say = (lambda text: None) if options["quiet"] or options["as_json"] else click.echo
        devices = Devices(**{field.name: options[field.name] for field in fields(Devices)})
        source = Source(options["data_dir"] or Path("data"), options["download"])
        planned = replace(planned, estimate=probe(loaded, settings, planned, devices, source, options["address"], say))
    if options["as_json"]:
        click.echo(json.dumps(planned.to_dict()))
    else:
        _print(Console(highlight=False), loaded, settings, planned)
    return 0


def probe(
    space: Space,
    settings: Settings,
    planned: SearchPlan,
    devices: Devices,
    source: Source,
    address: str | None,
    say: Callable[[str], None],
) -> Estimate:
    """The largest config alone, then random ones, as many at once as the search would run, in real workers."""
    from search.allocation import allocated_cpus
    from search.devices import plan_resources
    from search.largest import largest_config, sample_configs
    from search.operations import load_data, packing_of
    from search.planning import estimate
    from search.session import ray_session
    from search.tasks import run_tasks
    from spaces.check import check

    data = load_data(space, source)
    check(space, data.image_shape)
    largest, sampled = largest_config(space, data), sample_configs(space, data, NUM_PROBED, settings.seed)
    devices.check_one_gpu("the probe of winnow plan")
    if address is None:
        devices.check_here()
    began = time.time()
    with ray_session(devices.num_cpus or allocated_cpus(), devices.num_gpus, address) as ray:
        shares = plan_resources(ray, devices, settings.num_trials, packing_of(ray, space, data, settings.seed, say))
        say(f"{shares.explanation}; probing the largest config and {len(sampled)} random ones")
        shared, ready = ray.put(data), []
        found: dict[str, list[Any]] = {"largest": [], "sampled": []}
        for name, configs in (("sampled", sampled), ("largest", [largest])):
            jobs = [
                (name, (shared, config, shares.device, shares.threads, settings.seed, PROBE_SECONDS))
                for config in configs
            ]
            for _, measured in run_tasks(ray, probe_one, jobs, shares.per_trial):
                found[name].append(measured)
                ready.append(measured.started - began)
    return estimate(
        planned, found["sampled"], found["largest"][0], shares.concurrent, min(ready), shares.device == "cuda"
    )


def probe_one(data: Any, config: Any, device: str, threads: int, seed: int, seconds: float) -> Any:
    """In a Ray worker."""
    import torch

    from search.probe import measure

    torch.set_num_threads(threads)
    return measure(config, data, torch.device(device), seed, seconds)


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
    from reports.words import duration

    low, high = duration(found.seconds_low), duration(found.seconds_high)
    console.print(
        f"time     about {duration(found.seconds)} ({low} to {high}): {found.concurrent} at once, {found.start_seconds:.0f} s of start, "
        f"{found.epoch_seconds:.2g} s an epoch (mean of {found.num_probed} random configs), {found.largest_epoch_seconds:.2g} s for the largest"
    )
    console.print(
        f"memory   {found.memory_mb:,.0f} MB for the largest config ({found.memory_is}); {found.concurrent} trials at once"
    )
