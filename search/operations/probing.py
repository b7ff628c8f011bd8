"""Plans a search (`winnow plan`): forecasts it, then trains for seconds in real workers to estimate its time and memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.reports.text.wording import NO_BASELINE
from winnow.search.data.source import Source, check_on_images, load_data
from winnow.search.operations.execution import Execution, packing_of
from winnow.search.operations.limits import limit_notes
from winnow.search.operations.planning import Estimate, SearchForecast, estimate, forecast_search
from winnow.search.settings import Settings
from winnow.search.training.errors import Failed
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space
from winnow.spaces.validation import check

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.training.speed_probe import Measured
    from winnow.spaces.schema import Config

NUM_PROBED = 6
"""Number of random configs that are probed, in addition to the largest one."""
PROBE_SECONDS = 1.0
"""Training time per probed config, in seconds."""


def plan_search(
    space: Space, settings: Settings, execution: Execution | None, say: Callable[[str], None]
) -> SearchForecast:
    """Forecast a search without running it.

    Args:
        space: The space that would be searched.
        settings: Settings of that search.
        execution: Devices and images of the probe; None for no probe, and so no estimate of time and memory.
        say: Receives progress messages of the probe.

    Returns:
        The forecast.

    Raises:
        InputError: The images or the devices of the probe cannot be used.
    """
    room = check_on_images(space, execution.new_source if execution else Source(Path("data")))
    forecast = forecast_search(settings)
    notes = [*forecast.notes, *([room] if room else []), *([] if space.baseline else [NO_BASELINE])]
    if execution is None:
        limits = [f"limits {settings.limits}: a plan with a probe counts the configs within them"]
        return replace(forecast, notes=[*notes, *(limits if settings.limits else [])])
    data = load_data(space, execution.new_source)
    check(space, data.image_shape)
    notes += limit_notes(space, data.image_shape, data.num_classes)
    return replace(forecast, notes=notes, estimate=_probe(space, data, settings, forecast, execution, say))


def _probe(
    space: Space,
    data: ImageData,
    settings: Settings,
    forecast: SearchForecast,
    execution: Execution,
    say: Callable[[str], None],
) -> Estimate:
    """Train random configs and the largest one in real workers, as many at once as the search would run."""
    from winnow.search.ray_backend.session import ray_session
    from winnow.search.ray_backend.tasks import run_tasks
    from winnow.search.resources.inventory import allocated_cpus
    from winnow.search.resources.largest_config import largest_config, sample_configs
    from winnow.search.resources.plan import plan_resources

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
            jobs = deque(
                (config, (shared, config, plan.device, plan.threads, settings.seed, PROBE_SECONDS))
                for config in configs
            )
            measured[name] = [_sound(result) for _, result in run_tasks(ray, _probe_one, jobs, plan.per_trial)]
    start_seconds = min(each.started for results in measured.values() for each in results) - began
    return estimate(
        forecast,
        measured["sampled"],
        measured["largest"][0],
        plan.concurrent,
        start_seconds,
        plan.device == "cuda",
    )


def _sound(result: Any) -> Any:
    """Return the result of a probe, or raise InputError if its process was lost repeatedly."""
    if isinstance(result, Failed):
        raise InputError(f"the probe of winnow plan ended as {result.status}: {result.text}")
    return result


def _probe_one(data: ImageData, config: Config, device: str, threads: int, seed: int, seconds: float) -> Any:
    """Measure the speed of one config in a Ray worker.

    Args:
        data: Images of the space.
        config: The config.
        device: `cpu`, `cuda` or `mps`.
        threads: Number of CPU threads, at least 1.
        seed: Seed of the training.
        seconds: Duration of the measurement after the warm-up, in seconds.

    Returns:
        A `Measured`.
    """
    import torch

    from winnow.search.training.speed_probe import measure

    torch.set_num_threads(threads)
    return measure(config, data, torch.device(device), seed, seconds)
