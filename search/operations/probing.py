"""Plan a search: forecast it, then train for seconds in real workers to estimate its time and memory (`winnow plan`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.data.source import Source, check_on_images, load_data
from winnow.search.operations.execution import Execution, packing_of
from winnow.search.operations.planning import Estimate, SearchForecast, estimate, forecast_search
from winnow.search.settings import Settings
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.training.speed_probe import Measured
    from winnow.spaces.schema import Config

NUM_PROBED = 6
"""Random configs that are probed, besides the largest one."""
PROBE_SECONDS = 1.0
"""Training time per probed config."""


def plan_search(
    space: Space, settings: Settings, execution: Execution | None, say: Callable[[str], None]
) -> SearchForecast:
    """Forecast a search without running it.

    Args:
        space: What would be searched.
        settings: How it would be searched.
        execution: DeviceOptions and images to probe on; None: no probe, so no estimate of time and memory.
        say: Called with progress messages of the probe.

    Raises:
        InputError: The images or devices to probe on cannot be used.
    """
    room = check_on_images(space, execution.new_source if execution else Source(Path("data")))
    forecast = forecast_search(settings)
    forecast = replace(forecast, notes=[*forecast.notes, *([room] if room else [])])
    return (
        forecast if execution is None else replace(forecast, estimate=_probe(space, settings, forecast, execution, say))
    )


def _probe(
    space: Space, settings: Settings, forecast: SearchForecast, execution: Execution, say: Callable[[str], None]
) -> Estimate:
    """Train the largest config, then random ones, as many at once as the search would run, in real workers."""
    from winnow.search.operations.checks import check_space
    from winnow.search.ray_backend.session import ray_session
    from winnow.search.ray_backend.tasks import run_tasks
    from winnow.search.resources.inventory import allocated_cpus
    from winnow.search.resources.largest_config import largest_config, sample_configs
    from winnow.search.resources.plan import plan_resources

    data = load_data(space, execution.new_source)
    check_space(space, data)
    largest, sampled = largest_config(space, data), sample_configs(space, data, NUM_PROBED, settings.seed)
    devices, address = execution.devices, execution.address
    devices.check_one_gpu("the probe of winnow plan")
    if address is None:
        devices.check_here()
    began = time.time()
    with ray_session(devices.num_cpus or allocated_cpus(), devices.num_gpus, address) as ray:
        plan = plan_resources(ray, devices, settings.num_trials, packing_of(ray, space, data, settings.seed, say))
        say(f"{plan.explanation}; probing the largest config and {len(sampled)} random ones")
        shared = ray.put(data)
        measured: dict[str, list[Measured]] = {}
        for name, configs in (("sampled", sampled), ("largest", [largest])):
            jobs = [
                (name, (shared, config, plan.device, plan.threads, settings.seed, PROBE_SECONDS)) for config in configs
            ]
            measured[name] = [result for _, result in run_tasks(ray, probe_one, jobs, plan.per_trial)]
    start_seconds = min(each.started for results in measured.values() for each in results) - began
    return estimate(
        forecast,
        measured["sampled"],
        measured["largest"][0],
        plan.concurrent,
        start_seconds,
        plan.device == "cuda",
    )


def probe_one(data: ImageData, config: Config, device: str, threads: int, seed: int, seconds: float) -> Any:
    """Measure the speed of one config in a Ray worker."""
    import torch

    from winnow.search.training.speed_probe import measure

    torch.set_num_threads(threads)
    return measure(config, data, torch.device(device), seed, seconds)
