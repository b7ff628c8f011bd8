"""Which device, how many trials at once, and how much of the machine each one gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from search.provenance import available_cpus
from spaces.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True)
class Devices:
    """What the user asked for; None: choose."""

    device: DeviceName = "auto"
    concurrent: int | None = None
    cpus_per_trial: int | None = None
    gpus_per_trial: float | None = None
    num_cpus: int | None = None
    num_gpus: int | None = None


@dataclass(frozen=True)
class Plan:
    device: str
    concurrent: int
    cpus_per_trial: float
    gpus_per_trial: float
    threads: int
    explanation: str

    @property
    def per_trial(self) -> dict[str, float]:
        return {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}


def plan_resources(ray: Any, devices: Devices, num_trials: int) -> Plan:
    """Share out what Ray has. InputError where more is asked for than there is."""
    have = ray.cluster_resources()
    num_cpus, num_gpus = int(have.get("CPU", 0)), have.get("GPU", 0.0)
    device = _choose_device(devices.device, num_gpus)
    if device == "cuda":
        return _plan_gpus(devices, num_cpus, num_gpus, num_trials)
    concurrent = devices.concurrent or max(1, min(num_cpus // (devices.cpus_per_trial or 1), num_trials))
    cpus = devices.cpus_per_trial or max(1, num_cpus // concurrent)
    if concurrent * cpus > num_cpus:
        raise InputError(
            f"--concurrent {concurrent} trials with {cpus} CPUs each need {concurrent * cpus} CPUs, but Ray has {num_cpus}"
        )
    words = f"{concurrent} trials at once on {device}, {cpus} CPU{'s' * (cpus > 1)} each"
    # Ray bounds concurrency by resources alone, so a trial is given its share of all CPUs.
    return Plan(device, concurrent, num_cpus / concurrent, 0.0, cpus, words)


def _plan_gpus(devices: Devices, num_cpus: int, num_gpus: float, num_trials: int) -> Plan:
    gpus = devices.gpus_per_trial
    if gpus is None:
        # The fraction follows from the number of trials at once: Ray fills the first GPU before it uses the next.
        concurrent = devices.concurrent or int(num_gpus)
        gpus = num_gpus / concurrent if concurrent > num_gpus else 1.0
    if gpus > num_gpus:
        raise InputError(f"--gpus-per-trial {gpus:g}: Ray has {num_gpus:g} GPUs")
    if gpus <= 0:
        raise InputError(f"--gpus-per-trial: must be above 0 for device cuda, but got {gpus:g}; or use --device cpu")
    concurrent = devices.concurrent or max(1, min(int(num_gpus / gpus), num_trials))
    cpus = devices.cpus_per_trial or max(1, num_cpus // concurrent)
    if concurrent * cpus > num_cpus:
        raise InputError(f"{concurrent} trials at once with {cpus} CPUs each need more than the {num_cpus} CPUs of Ray")
    words = f"{concurrent} trials at once, {gpus:g} GPU and {cpus} CPU{'s' * (cpus > 1)} each"
    return Plan("cuda", concurrent, float(cpus), gpus, cpus, words)


def _choose_device(asked: DeviceName, num_gpus: float) -> str:
    if asked == "cuda" and not num_gpus:
        raise InputError("--device cuda: Ray sees no GPU here; use --device cpu, or check CUDA_VISIBLE_DEVICES")
    if asked != "auto":
        return asked
    if num_gpus:
        return "cuda"
    import platform

    if platform.system() == "Darwin" and platform.machine() == "arm64":
        import torch

        return "mps" if torch.backends.mps.is_available() else "cpu"
    return "cpu"


def default_num_cpus(asked: int | None) -> int:
    return asked or available_cpus()
