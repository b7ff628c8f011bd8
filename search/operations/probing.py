"""Plans a search (`winnow plan`): forecasts it, then trains for seconds in real workers to estimate its time and memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.reports.text.wording import NO_BASELINE
from winnow.search.data.source import Source, check_on_images, load_data
from winnow.search.operations.checks import check_space
from winnow.search.operations.execution import Execution, packing_of
from winnow.search.operations.planning import Estimate, SearchForecast, estimate, forecast_search
from winnow.search.ray_backend.silence import limit
from winnow.search.settings import Settings
from winnow.search.storage.leftovers import temporary_errors, temporary_folder
from winnow.search.study.failure_policy import headline
from winnow.search.training.errors import Failed, failure
from winnow.search.training.heartbeat import beating
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

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
        InputError: The images or the devices of the probe cannot be used, or a network of the space cannot be built or trained.
    """
    room = check_on_images(space, execution.new_source if execution else Source(Path("data")))
    forecast = forecast_search(settings)
    notes = [*forecast.notes, *([room] if room else []), *([] if space.baseline else [NO_BASELINE])]
    if execution is None:
        limits = [f"limits {settings.limits}: a plan with a probe counts the configs within them"]
        return replace(forecast, notes=[*notes, *(limits if settings.limits else [])])
    data = load_data(space, execution.new_source)
    notes += check_space(space, data, settings.trial_timeout, say, settings.named_metrics)
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
    from winnow.search.ray_backend.end_with_ray import ending_with_ray
    from winnow.search.ray_backend.session import ray_session
    from winnow.search.ray_backend.tasks import Hangs, run_tasks
    from winnow.search.resources.inventory import allocated_cpus
    from winnow.search.resources.largest_config import largest_config, sample_configs
    from winnow.search.resources.plan import plan_resources

    largest, sampled = largest_config(space, data), sample_configs(space, data, NUM_PROBED, settings.seed)
    devices, address = execution.devices, execution.address
    devices.check_one_gpu("the probe of winnow plan")
    if address is None:
        devices.check_here()
    began = time.time()
    with (
        temporary_errors("plan again"),
        temporary_folder("plan") as folder,  # workers on other machines do not see it, and are not watched
        ray_session(devices.num_cpus or allocated_cpus(), devices.num_gpus, address) as ray,
    ):
        plan = plan_resources(ray, devices, settings.num_trials, packing_of(ray, space, data, settings.seed, say))
        say(f"{plan.explanation}; probing the largest config and {len(sampled)} random ones")
        shared = ray.put(data)
        hangs: Hangs[str] = Hangs(str, limit(settings.trial_timeout, None), run_again=False)
        measured: dict[str, list[Measured]] = {}
        for name, configs in (("sampled", sampled), ("largest", [largest])):
            probes = {f"{folder}/{name}-{number}.beat": config for number, config in enumerate(configs)}
            jobs = deque(
                (heartbeat, (shared, config, heartbeat, plan.device, plan.threads, settings.seed, PROBE_SECONDS))
                for heartbeat, config in probes.items()
            )
            tasks = run_tasks(ray, _probe_one, jobs, plan.per_trial, hangs=hangs, say=say, name=_name)
            with ending_with_ray("Plan again."), closing(tasks) as results:
                ended = [_measured(probes[heartbeat], result) for heartbeat, result in results]
            measured[name] = [result for result in ended if result is not None]
    probed = [*measured["largest"], *measured["sampled"]]
    if not probed:
        raise InputError(f"{space.source}: every model that was probed refuses its config")
    start_seconds = min(each.started for each in probed) - began
    return estimate(
        forecast,
        measured["sampled"] or probed,
        probed[0],
        plan.concurrent,
        start_seconds,
        plan.device == "cuda",
    )


def _name(heartbeat: str) -> str:
    return f"probe {Path(heartbeat).stem}"


def _measured(config: Config, result: Measured | Failed) -> Measured | None:
    """Return the result of a probe; None if the user's own model refused the config, which only makes a trial infeasible.

    Raises:
        InputError: The config could not be trained, its training hung, or its process was lost repeatedly.
    """
    if not isinstance(result, Failed):
        return result
    if result.status == TrialStatus.INFEASIBLE:
        return None
    raise InputError(f"model {config.model.name}: its probe ended as {result.status}: {headline(result.text)}")


def _probe_one(
    data: ImageData, config: Config, heartbeat: str, device: str, threads: int, seed: int, seconds: float
) -> Measured | Failed:
    """Measure the speed of one config in a Ray worker.

    Args:
        data: Images of the space.
        config: The config.
        heartbeat: Path of the file that the training rewrites for as long as it lives.
        device: `cpu`, `cuda` or `mps`.
        threads: Number of CPU threads, at least 1.
        seed: Seed of the training.
        seconds: Duration of the measurement after the warm-up, in seconds.

    Returns:
        The measurement, or how the training ended.

    Raises:
        RankLost: The device no longer works in this process.
    """
    import torch

    from winnow.search.training.speed_probe import measure

    torch.set_num_threads(threads)
    try:
        with beating(heartbeat):
            return measure(config, data, torch.device(device), seed, seconds)
    except (Exception, SystemExit) as error:  # a model that calls sys.exit() would take the worker along
        return Failed(*failure(error))
