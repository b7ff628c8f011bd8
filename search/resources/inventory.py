"""The available CPUs and GPUs: those of Ray's nodes, and on this machine only those that Slurm or a container allows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from winnow.search.resources.gpus import SLURM_LISTS, SLURM_NUMBERS, gpus_of_this_machine
from winnow.search.storage.provenance import available_cpus


@dataclass(frozen=True)
class Inventory:
    """CPUs and GPUs, by node."""

    nodes: tuple[tuple[float, float], ...]
    """(CPUs, GPUs) of each node; in a cluster that may grow, also of the nodes that it may add."""
    gpus_now: int
    """GPUs of the nodes that are up."""
    kinds: tuple[str, ...] = ()
    """The kind of GPU of each node, such as `T4`; empty text: unknown or none. Default: nothing is known."""
    kinds_now: frozenset[str] = frozenset()
    """The known kinds of the nodes that are up."""

    @property
    def cpus_of_nodes(self) -> list[float]:
        """CPUs of each node that has at least one."""
        return [cpus for cpus, _ in self.nodes if cpus >= 1] or [1.0]

    @property
    def num_cpus(self) -> float:
        """CPUs of all nodes."""
        return sum(cpus for cpus, _ in self.nodes)

    @property
    def num_gpus(self) -> int:
        """GPUs of all nodes."""
        return int(sum(gpus for _, gpus in self.nodes))

    @property
    def cpus_per_gpu(self) -> float:
        """CPUs for each GPU on the node that has the fewest; nodes without GPUs do not count."""
        return min((cpus / gpus for cpus, gpus in self.nodes if gpus), default=1.0)

    def of_kind(self, kind: str) -> list[tuple[float, float]]:
        """Return (CPUs, GPUs) of the nodes whose GPUs are of this kind."""
        return [node for node, own in zip(self.nodes, self.kinds, strict=False) if own == kind and node[1]]

    def cpus_beside(self, kind: str) -> float:
        """Return `cpus_per_gpu` of the nodes with GPUs of this kind, or of all nodes if the kind is empty or no node has it."""
        own = self.of_kind(kind) if kind else []
        return min((cpus / gpus for cpus, gpus in own), default=self.cpus_per_gpu)


KIND = "accelerator_type:"
"""Prefix of the resource by which Ray names the kind of a node's GPUs."""


def kind_of_gpu(resources: Mapping[str, float]) -> str:
    """Return the kind of GPU of a node, such as `T4`; empty if Ray does not know it.

    Args:
        resources: The resources of the node, by Ray's names.
    """
    return next((name.removeprefix(KIND) for name in sorted(resources) if name.startswith(KIND)), "")


def read_inventory(ray: Any) -> Inventory:
    """Return the inventory of a running Ray. If Ray's total differs from the sum of the living nodes, it counts as one node."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple((float(node.get("CPU", 0)), float(node.get("GPU", 0))) for node in resources)
    now, declared = tuple(map(sum, zip(*nodes, strict=True))), ray.cluster_resources()
    total = (float(declared.get("CPU", 0)), float(declared.get("GPU", 0)))
    return Inventory(nodes if total == now else (total,), int(now[1]))


def allocated_cpus(environment: Mapping[str, str] = os.environ) -> int | None:
    """Return the number of CPUs for a Ray started here, if Slurm or an affinity mask allows fewer than the machine has, else None."""
    of_task, available = environment.get("SLURM_CPUS_PER_TASK", ""), available_cpus()
    allowed = min(available, int(of_task)) if of_task.isdigit() else available
    return max(1, allowed) if allowed < (os.cpu_count() or 1) else None


def allocated_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str | None, int | None]:
    """Return the GPUs that Slurm allows a Ray started here.

    Slurm usually sets CUDA_VISIBLE_DEVICES itself. If it only says which GPUs the job has, those are used; if the job was
    given none, none is used.

    Returns:
        The value to give `CUDA_VISIBLE_DEVICES` (None: leave it as it is), and the number of GPUs (None: all visible ones).
    """
    if "CUDA_VISIBLE_DEVICES" in environment:
        return None, None
    for variable in SLURM_LISTS:
        if indices := environment.get(variable):
            return indices, len(indices.split(","))
    for variable in SLURM_NUMBERS:
        number = _number_of_gpus(environment.get(variable, ""))
        if number is not None:
            return ("", 0) if number == 0 else (None, number)
    return None, None


def _number_of_gpus(text: str) -> int | None:
    """Parse Slurm's number of GPUs: `4`, with a type `a100:4`, or several types `a100:2,v100:1`; None for anything else."""
    numbers = [part.rpartition(":")[2] for part in text.split(",")]
    return sum(map(int, numbers)) if all(number.isdigit() for number in numbers) else None


def gpus_here() -> int:
    """Return the number of GPUs of this machine that torch can really use."""
    return len(gpus_of_this_machine().usable)
