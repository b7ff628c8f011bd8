"""Measures for a few seconds how many concurrent trials train the most images per second, and chooses that number.

On a GPU, trials share its memory and the machine's memory, and Ray checks neither. So the largest model of the space first trains
one step with its largest batch. On a CPU, trials share the cores, and two trials with one thread each may be faster or slower than
one with two. There the memory of the largest model is only estimated, since one step may take half a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.search.ray_backend.session import put_once
from winnow.search.resources.inventory import KIND
from winnow.search.resources.packing import CONTEXT_MB, LEVELS, USABLE, Level, Packing, choose, fraction_of
from winnow.spaces.errors import ModelRefused
from winnow.spaces.schema import Config
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.training.speed_probe import Measured

SECONDS = 3.0  # duration of each measurement
PATIENCE_SECONDS = 300.0


def measure_packing(
    ray: Any,
    space: Space,
    data: ImageData,
    device: str,
    cpus: float,
    seed: int,
    say: Callable[[str], None],
    kind: str = "",
) -> Packing:
    """Measure different numbers of concurrent trials on one device through Ray, and choose the best.

    Args:
        ray: The `ray` module, connected.
        space: The space whose configs are measured.
        data: Its images.
        device: `cuda` to measure on one GPU, `cpu` to measure on the CPUs of one node.
        cpus: Number of CPUs to use with the GPU, or of the node.
        seed: Seed of the measured trainings.
        say: Receives messages for the user.
        kind: Kind of the GPU, by Ray's name such as `T4`. Default: any.

    Returns:
        The chosen number of trials per device, with the measurements.
    """
    from winnow.search.resources.largest_config import estimated_mb, largest_config, sample_configs

    on_gpu = device == "cuda"
    where = f"a GPU {kind}".rstrip() if on_gpu else "the CPUs"
    say(f"measuring how many concurrent trials {where} should train")
    typical, largest = _typical(space, data, sample_configs(space, data, 9, seed)), largest_config(space, data)
    shared = put_once(ray, data.fingerprint, data)
    on_kind = {KIND + kind: 0.001} if kind else {}
    group = ray.util.placement_group([{"CPU": cpus, **({"GPU": 1} if on_gpu else {}), **on_kind}])
    try:
        if not group.wait(PATIENCE_SECONDS):
            level = Level(1, None, 0.0, "no node was free to measure on")
            return choose([level], None)
        device_held = MeasuredDevice(ray, group, shared, device, cpus, seed)
        memory_mb = device_held.memory_mb()
        limits = []
        largest_mb = estimated_mb(largest, data) + CONTEXT_MB
        if on_gpu:
            try:
                (alone,) = device_held.measure(largest, 1, seconds=0.0)
            except NotMeasured as error:
                level = Level(1, None, 0.0, f"the largest model could not be trained alone: {error}")
                return choose([level], memory_mb)
            largest_mb = alone.memory_mb + CONTEXT_MB
            limits = [Limit(alone.host_mb, device_held.host_share_mb(), " of the machine's memory")]
        limits.insert(0, Limit(largest_mb, memory_mb))
        levels = [_level(device_held, typical, n, limits) for n in LEVELS if n <= max(1, cpus)]
    finally:
        ray.util.remove_placement_group(group)
    return choose(levels, memory_mb, estimated=not on_gpu)


def _typical(space: Space, data: ImageData, configs: Sequence[Config]) -> Config:
    """Return the config with the median number of multiply-adds, among those that the user's own model does not refuse."""
    from winnow.models import summarize

    costs = []
    for number, config in enumerate(configs):
        with suppress(ModelRefused):
            costs.append((summarize(config.model, data.image_shape, data.num_classes).multiply_adds, number))
    return configs[sorted(costs)[len(costs) // 2][1]] if costs else space.example()


@dataclass(frozen=True)
class Limit:
    """A memory that trials share: how much each of them needs, and how much is free, in MB."""

    each: float
    free: float
    whose: str = ""


def _level(device: MeasuredDevice, config: Config, at_once: int, limits: Sequence[Limit]) -> Level:
    """Measure a number of concurrent trials, unless a memory cannot hold them. The first limit is that of the device."""
    needed = at_once * limits[0].each
    for limit in limits:
        if at_once * limit.each > USABLE * limit.free:
            return Level(at_once, None, needed, f"would need {at_once * limit.each:,.0f} MB{limit.whose}")
    try:
        results = device.measure(config, at_once, SECONDS)
    except NotMeasured as error:
        return Level(at_once, None, needed, str(error))
    return Level(at_once, sum(result.images_per_second for result in results), needed)


class NotMeasured(Exception):
    """Raised when trials could not be measured; the message is the reason."""


@dataclass(frozen=True)
class MeasuredDevice:
    """One GPU with its CPUs, or the CPUs of one node, held by a placement group."""

    ray: Any
    group: Any
    data: Any
    device: str
    cpus: float
    seed: int

    def measure(self, config: Config, at_once: int, seconds: float) -> list[Measured]:
        """Measure several processes that train the same config at the same time.

        Args:
            config: The config that all processes train.
            at_once: Number of processes, at least 1.
            seconds: Duration of each measurement, in seconds.

        Returns:
            The measurement of each process.

        Raises:
            NotMeasured: One of the processes failed or took too long.
        """
        # Imports Ray, which a GPU machine may not have.
        from winnow.search.ray_backend.tasks import run_in_sound_process

        gate = self._remote(_Gate, 0, 0).remote(at_once)
        threads = max(1, int(self.cpus // at_once))
        # One call for each process: the next number must not meet a process that a model of this one has spoiled, which ends soon.
        task = self._remote(run_in_sound_process, self.cpus / at_once, fraction_of(at_once), max_calls=1)
        waiting = [
            task.remote(_measure_when_open, self.data, config, self.device, threads, self.seed, seconds, gate)
            for _ in range(at_once)
        ]
        try:
            results: list[Measured] = self.ray.get(waiting, timeout=PATIENCE_SECONDS)
        except (self.ray.exceptions.RayError, TimeoutError) as error:
            # Cancel only those that still run: cancelling a task while its result arrives aborts the driver (Ray 2.60).
            _, running = self.ray.wait(waiting, num_returns=at_once, timeout=0)
            for reference in running:
                self.ray.cancel(reference, force=True)
            raise NotMeasured(str(error).strip().splitlines()[-1]) from error
        finally:
            self.ray.kill(gate)
        return results

    def memory_mb(self) -> float:
        """Return the free memory of the device in MB."""
        return float(self.ray.get(self._remote(memory_of, 0, 0.01).remote(self.device)))

    def host_share_mb(self) -> float:
        """Return the free memory of the machine divided by the number of its GPUs, in MB."""
        free, node_id = self.ray.get(self._remote(host_memory, 0, 0.01).remote())
        (gpus,) = [node["Resources"].get("GPU", 1.0) for node in self.ray.nodes() if node["NodeID"] == node_id]
        return float(free / gpus)

    def _remote(self, what: Any, cpus: float, gpus: float, **more: Any) -> Any:
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self.group)
        gpus = gpus if self.device == "cuda" else 0
        return self.ray.remote(num_cpus=cpus, num_gpus=gpus, scheduling_strategy=strategy, **more)(what)


class _Gate:
    """A barrier that opens when all processes have arrived, so that they are measured at the same time."""

    def __init__(self, num: int) -> None:
        self.missing = num

    def arrive(self) -> None:
        self.missing -= 1

    def is_open(self) -> bool:
        return self.missing <= 0


def _measure_when_open(
    data: ImageData, config: Config, device: str, threads: int, seed: int, seconds: float, gate: Any
) -> Measured:
    """Measure one training in a Ray worker, after all workers have warmed up.

    Args:
        data: Images of the space.
        config: The config.
        device: `cpu` or `cuda`.
        threads: Number of CPU threads, at least 1.
        seed: Seed of the training.
        seconds: Duration of the measurement after the warm-up, in seconds.
        gate: Handle of the `_Gate` actor, where all workers wait for each other.
    """
    import ray
    import torch

    from winnow.search.training.speed_probe import measure

    def wait() -> None:
        ray.get(gate.arrive.remote())
        while not ray.get(gate.is_open.remote()):
            time.sleep(0.01)

    torch.set_num_threads(threads)
    return measure(config, data, torch.device(device), seed, seconds, wait)


def memory_of(device: str) -> float:
    """Return the free memory of the GPU (`cuda`) or of this machine (`cpu`), in MB. Other processes may use part of the total."""
    if device == "cuda":
        import torch

        return torch.cuda.mem_get_info()[0] / 2**20
    import psutil

    return float(psutil.virtual_memory().available / 2**20)


def host_memory() -> tuple[float, str]:
    """Return the free memory of this machine in MB, and the id of its node. Must run in a Ray worker."""
    import ray

    return memory_of("cpu"), ray.get_runtime_context().get_node_id()
