"""Which device, how many trials at once, and how much of the machine each one gets."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from winnow.search.resources.inventory import Inventory, gpus_here, inventory
from winnow.search.resources.packing import Packing, fraction_of
from winnow.spaces.errors import InputError

ERRAND_CPUS = 0.0001  # of the process that passes on what ranks report; the least that Ray counts
DeviceName = Literal["auto", "cpu", "cuda", "mps"]
Measure = Callable[[str, float], Packing]
"""(device, CPUs of one GPU or of one node) -> how many trials at once train there fastest."""


@dataclass(frozen=True)
class DeviceOptions:
    """What the user asked for; None: choose. InputError where it contradicts itself."""

    device: DeviceName = "auto"
    concurrent: int | Literal["auto"] | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None
    trials_per_gpu: int | Literal["auto"] | None = None

    def __post_init__(self) -> None:
        if self.trials_per_gpu is not None and self.gpus_per_trial is not None:
            raise InputError("--trials-per-gpu and --gpus-per-trial say the same thing twice; give one of them")
        if self.gpus_per_trial:
            _check_divides(self.gpus_per_trial)

    def check_one_gpu(self, command: str) -> None:
        """For commands whose trainings know no ranks."""
        if (self.gpus_per_trial or 0) > 1:
            raise InputError(
                f"--gpus-per-trial {self.gpus_per_trial:g}: {command} trains on one GPU; use 1, or a fraction of one"
            )

    def check_here(self) -> None:
        """Before Ray is started on this machine (not for a cluster's address): no more than it has."""
        if self.num_gpus and self.device != "cpu" and self.num_gpus > (there := gpus_here()):
            raise InputError(
                f"--num-gpus {self.num_gpus}: this machine has {there} that torch can use; check CUDA_VISIBLE_DEVICES, or leave it out"
            )


@dataclass(frozen=True)
class ResourcePlan:
    """The shares of one trial, and why. `concurrent`: at most so many at once."""

    device: str
    concurrent: int
    cpus_per_trial: float
    gpus_per_trial: float
    threads: int
    explanation: str
    trials_per_gpu: int | None = None
    ranks: int = 1
    """Processes that train one trial, with a GPU each."""

    @property
    def per_trial(self) -> dict[str, float]:
        """What Ray sets aside for the worker of a trial; where ranks train it, next to nothing."""
        if self.ranks > 1:
            return {"cpu": ERRAND_CPUS, "gpu": 0.0}
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    @property
    def per_rank(self) -> dict[str, float]:
        """With room beside the ranks of any node for the workers of all trials."""
        cpus = self.cpus_per_trial / self.ranks - self.concurrent * ERRAND_CPUS
        return {"CPU": max(0.0, math.floor(cpus * 10_000 + 1e-6) / 10_000), "GPU": self.gpus_per_trial / self.ranks}

    @property
    def bundles(self) -> list[dict[str, float]]:
        """What all trials at once need, each of it on one node."""
        if self.ranks > 1:
            return [self.per_rank] * (self.ranks * self.concurrent)
        return [{key.upper(): amount for key, amount in self.per_trial.items() if amount}] * self.concurrent


def plan_resources(
    ray: Any, devices: DeviceOptions, num_trials: int, measure: Measure | None = None, recorded: float | None = None
) -> ResourcePlan:
    """Share out what Ray has. InputError where more is asked for than there is now, or ever will be.

    `measure` is called where `auto` leaves the packing open; without it, a trial gets `recorded` GPUs (as in an earlier
    start), or one alone.
    """
    return share_out(inventory(ray), devices, num_trials, measure, recorded)


def share_out(
    have: Inventory,
    devices: DeviceOptions,
    num_trials: int,
    measure: Measure | None = None,
    recorded: float | None = None,
) -> ResourcePlan:
    """The same for a known inventory.

    `--device cpu --num-gpus 4 --gpus-per-trial 2` keeps declared GPUs for each trial, which trains on the CPU: to try it without any.
    """
    if devices.device == "cpu" and devices.gpus_per_trial and devices.num_gpus:
        return replace(share_out(have, replace(devices, device="cuda"), num_trials), device="cpu")
    device = _choose_device(devices, have)
    if device == "cuda":
        return _on_gpus(have, devices, num_trials, measure, recorded)
    for option, value in (
        ("--trials-per-gpu", devices.trials_per_gpu),
        ("--gpus-per-trial", devices.gpus_per_trial),
    ):
        if value:
            why = f"with --device {device}" if devices.device == device else "there is no GPU here, so"
            raise InputError(f"{option} {value}: {why} trials train on {device}; leave it out")
    return _on_cpus(have, device, devices, num_trials, measure)


# --- without GPUs -----------------------------------------------------------------------------------------------------


def _on_cpus(
    have: Inventory, device: str, devices: DeviceOptions, num_trials: int, measure: Measure | None
) -> ResourcePlan:
    num_cpus, most = int(have.num_cpus), int(max(have.cpus_of_nodes))
    if (devices.cpus_per_trial or 1) > most:
        raise InputError(f"--cpus-per-trial {devices.cpus_per_trial}: {_largest_node(have)}")
    concurrent, why = devices.concurrent, ""
    if concurrent == "auto":
        concurrent = None
        if measure is not None and devices.cpus_per_trial is None:
            packing = measure(device, float(most))
            # Measured on one node; the others take as many trials with as many CPUs each.
            concurrent = max(1, min(_places(have, most / packing.at_once), num_trials))
            why = f" ({packing.explanation})"
    if concurrent is None:
        concurrent = max(1, min(_places(have, devices.cpus_per_trial or 1), num_trials))
    cpus = devices.cpus_per_trial or _share(have, concurrent)
    if _places(have, cpus) < concurrent or cpus < 1:
        raise InputError(
            f"--concurrent {concurrent} trials with {max(1, int(cpus))} CPUs each need {concurrent * max(1, int(cpus))} CPUs, "
            f"but Ray has {num_cpus}" + (f" on {len(have.nodes)} nodes" if len(have.nodes) > 1 else "")
        )
    threads = max(1, int(cpus))
    words = f"{concurrent} trials at once on {device}, {threads} CPU{'s' * (threads > 1)} each{why}"
    # Ray bounds concurrency by resources alone, so a trial is given its share of all CPUs.
    return ResourcePlan(device, concurrent, _share(have, concurrent), 0.0, threads, words)


def _places(have: Inventory, cpus: float) -> int:
    """How many trials of so many CPUs the nodes hold; a trial never spans nodes."""
    return sum(math.floor(node / cpus + 1e-9) for node in have.cpus_of_nodes)


def _share(have: Inventory, concurrent: int) -> float:
    """The most CPUs for each of so many trials at once."""
    shares = {node / k for node in have.cpus_of_nodes for k in range(1, concurrent + 1)}
    return max((share for share in shares if _places(have, share) >= concurrent), default=0.0)


def _largest_node(have: Inventory) -> str:
    where = "the largest node of Ray" if len(have.nodes) > 1 else "Ray"
    return f"{where} has {int(max(have.cpus_of_nodes))} CPUs"


# --- with GPUs --------------------------------------------------------------------------------------------------------


def _on_gpus(
    have: Inventory, devices: DeviceOptions, num_trials: int, measure: Measure | None, recorded: float | None
) -> ResourcePlan:
    num_gpus, cpus_per_gpu, why = have.num_gpus, have.cpus_per_gpu, ""
    if (devices.gpus_per_trial or 0) > 1:
        return _several_gpus_each(have, devices, num_trials)
    open_yet = devices.gpus_per_trial is None and devices.trials_per_gpu is None
    if open_yet and 1 < (recorded or 0) <= num_gpus:
        return _several_gpus_each(have, replace(devices, gpus_per_trial=recorded), num_trials)
    if devices.gpus_per_trial is not None:
        if not devices.gpus_per_trial:
            raise InputError("--gpus-per-trial 0: must be above 0 on GPUs; or use --device cpu")
        at_once = round(1 / devices.gpus_per_trial)
    elif isinstance(devices.trials_per_gpu, int):
        at_once = devices.trials_per_gpu
    elif isinstance(devices.concurrent, int):
        at_once = math.ceil(devices.concurrent / num_gpus)
    elif recorded is not None and devices.trials_per_gpu is None:
        at_once = max(1, round(1 / recorded))
    elif measure is not None and have.gpus_now:
        packing = measure("cuda", cpus_per_gpu)
        at_once, why = packing.at_once, f" ({packing.explanation})"
    else:
        at_once = 1
    concurrent = devices.concurrent if isinstance(devices.concurrent, int) else None
    if concurrent is None:
        # With fewer trials than places, each gets a larger part: Ray fills a GPU before it uses the next one.
        at_once = min(at_once, max(1, num_trials // num_gpus))
        concurrent = min(at_once * num_gpus, max(1, num_trials))
    elif concurrent > at_once * num_gpus:
        raise InputError(
            f"--concurrent {concurrent}: {num_gpus} GPUs with {at_once} trials each hold {at_once * num_gpus} at once"
        )
    else:
        at_once = math.ceil(concurrent / num_gpus)
        used = math.ceil(concurrent / at_once)
        if at_once > 1 and used < num_gpus:
            raise InputError(
                f"--concurrent {concurrent} does not divide among {num_gpus} GPUs: {at_once} on each would leave "
                f"{num_gpus - used} idle; use {(at_once - 1) * num_gpus} or {at_once * num_gpus}"
            )
    cpus = float(devices.cpus_per_trial or max(int(cpus_per_gpu / at_once), 0) or cpus_per_gpu / at_once)
    if cpus * at_once > cpus_per_gpu + 1e-9:
        raise InputError(
            f"--cpus-per-trial {devices.cpus_per_trial}: {at_once} trials on a GPU need {cpus * at_once:g} CPUs, but there are "
            f"{cpus_per_gpu:g} for each GPU"
        )
    threads = max(1, int(cpus))
    shared = "one GPU each" if at_once == 1 else f"{at_once} on each GPU"
    words = f"{concurrent} trials at once on {num_gpus} GPU{'s' * (num_gpus > 1)}, {shared}, {threads} CPU{'s' * (threads > 1)} each{why}"
    if have.gpus_now < num_gpus:
        words += f"; {have.gpus_now} of the GPUs are there now, the cluster may grow to {num_gpus}"
    return ResourcePlan("cuda", concurrent, cpus, fraction_of(at_once), threads, words, at_once)


def _several_gpus_each(have: Inventory, devices: DeviceOptions, num_trials: int) -> ResourcePlan:
    """Each trial on so many GPUs, of one node where they fit (search/ray_backend/rank_groups.py)."""
    ranks, num_gpus = int(devices.gpus_per_trial or 0), have.num_gpus
    said = f"--gpus-per-trial {ranks}"
    if ranks > num_gpus:
        raise InputError(f"{said}: there are {num_gpus} GPUs, and there will be no more")
    places, idle = divmod(num_gpus, ranks)
    chosen = devices.concurrent if isinstance(devices.concurrent, int) else None
    if idle and chosen is None:
        fitting = [str(n) for n in range(2, num_gpus + 1) if num_gpus % n == 0]
        raise InputError(
            f"{said} does not divide the {num_gpus} GPUs: {idle} would stand idle; use {' or '.join(fitting)}, or say so with "
            f"--concurrent {places}"
        )
    concurrent = chosen or max(1, min(places, num_trials))
    if concurrent > places:
        raise InputError(f"--concurrent {concurrent}: {num_gpus} GPUs, {ranks} for each trial, hold {places} at once")
    all_cpus = have.cpus_per_gpu * ranks
    cpus = float(devices.cpus_per_trial or int(all_cpus) or all_cpus)
    if cpus > all_cpus + 1e-9:
        raise InputError(f"--cpus-per-trial {cpus:g}: beside {ranks} GPUs there are {all_cpus:g} CPUs")
    threads = max(1, int(cpus))
    words = f"{concurrent} trial{'s' * (concurrent > 1)} at once, each on {ranks} of {num_gpus} GPUs and {cpus:g} CPUs"
    spanning = concurrent - sum(int(gpus) // ranks for _, gpus in have.nodes)
    if spanning > 0:
        words += f"; {'each' if spanning == concurrent else spanning} spans several nodes"
    return ResourcePlan("cuda", concurrent, cpus, float(ranks), threads, words, ranks=ranks)


def _check_divides(asked: float) -> None:
    """InputError for a `--gpus-per-trial` that is neither a whole number nor one divided by one."""
    if asked > 1 and asked != int(asked):
        raise InputError(f"--gpus-per-trial {asked:g}: above 1 it must be a whole number of GPUs")
    parts = 1 / asked
    if asked < 1 and abs(parts - round(parts)) > 0.05:
        below = math.floor(parts)
        raise InputError(
            f"--gpus-per-trial {asked:g} does not divide a GPU: {below} trials would leave {1 - below * asked:.2g} of it unused; "
            f"use {1 / below:.4g} ({below} on a GPU) or {fraction_of(below + 1):g} ({below + 1})"
        )


def _choose_device(devices: DeviceOptions, have: Inventory) -> str:
    asked = devices.device
    if asked == "cuda" and not have.num_gpus:
        raise InputError("--device cuda: Ray sees no GPU here; use --device cpu, or check CUDA_VISIBLE_DEVICES")
    if asked != "auto":
        return asked
    if have.num_gpus:
        return "cuda"
    import platform

    if platform.system() == "Darwin" and platform.machine() == "arm64":
        import torch

        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cpu"
