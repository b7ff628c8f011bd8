"""What there is to share out: the nodes of Ray, and on this machine no more than Slurm or a container allows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from winnow.search.storage.provenance import available_cpus


@dataclass(frozen=True)
class Inventory:
    """(CPUs, GPUs) of each living node, and the GPUs that are there now where the nodes are those of a grown cluster."""

    nodes: tuple[tuple[float, float], ...]
    gpus_now: int

    @property
    def cpus_of_nodes(self) -> list[float]:
        return [cpus for cpus, _ in self.nodes if cpus >= 1] or [1.0]

    @property
    def num_cpus(self) -> float:
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def num_gpus(self) -> int:
        return int(sum(gpus for _, gpus in self.nodes))

    @property
    def cpus_per_gpu(self) -> float:
        """CPUs beside each GPU, of the node that has the fewest; a head without GPUs does not count."""
        return min((cpus / gpus for cpus, gpus in self.nodes if gpus), default=1.0)


def inventory(ray: Any) -> Inventory:
    """What Ray has. Where its total is not that of the living nodes (a cluster that may grow), as one node of that total."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple((float(found.get("CPU", 0)), float(found.get("GPU", 0))) for found in resources)
    now, has = tuple(map(sum, zip(*nodes, strict=True))), ray.cluster_resources()
    total = (float(has.get("CPU", 0)), float(has.get("GPU", 0)))
    return Inventory(nodes if total == now else (total,), int(now[1]))


def allocated_cpus(environment: Mapping[str, str] = os.environ) -> int | None:
    """CPUs for a Ray started here, where Slurm's task or an affinity mask leaves less than the machine has; None: as Ray finds."""
    of_task, available = environment.get("SLURM_CPUS_PER_TASK", ""), available_cpus()
    allowed = min(available, int(of_task)) if of_task.isdigit() else available
    return max(1, allowed) if allowed < (os.cpu_count() or 1) else None


def allocated_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str | None, int | None]:
    """(`CUDA_VISIBLE_DEVICES` to set, number of GPUs for a Ray started here); None: as it is, all that are visible.

    Slurm usually sets CUDA_VISIBLE_DEVICES itself. Where it only says which GPUs the job has, those are used; where a job
    was given none, so are none.
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        return None, None
    for variable in ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS"):
        if given := environment.get(variable):
            return given, len(given.split(","))
    for variable in ("SLURM_GPUS_ON_NODE", "SLURM_GPUS"):
        number = environment.get(variable, "").rpartition(":")[2]  # `4`, or with its type `a100:4`
        if number.isdigit():
            return ("", 0) if number == "0" else (None, int(number))
    return None, None


def gpus_here() -> int:
    """GPUs that torch can use in this process."""
    import torch

    return torch.cuda.device_count()
