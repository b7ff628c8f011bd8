"""Joins a running Ray cluster: checks that one answers at the address, and plans for the resources it has or can grow to."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from winnow.search.resources.inventory import Inventory, kind_of_gpu
from winnow.search.resources.packing import Measure, RecordedPacking
from winnow.search.resources.plan import DeviceOptions, ResourcePlan, share_out
from winnow.spaces.errors import InputError

ANSWER_SECONDS = 5.0


BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # where `ray up` leaves the launcher's file on the head node


Kind = tuple[int, dict[str, float]]
"""(Number of nodes, resources of each of them.)"""


@dataclass(frozen=True)
class Capacity:
    """The resources of a cluster, including nodes that an autoscaler can still start.

    Attributes:
        kinds: The kinds of nodes.
        cpus: CPUs of all nodes together.
        gpus: GPUs of all nodes together.
        grows: Whether these resources exceed those that the cluster has now.
    """

    kinds: list[Kind]
    cpus: float
    gpus: float
    grows: bool


@cache  # `winnow run` asks before the search and again before the retraining
def resolve(address: str) -> str:
    """Return `host:port` of the cluster at `--address`.

    Args:
        address: `auto`, or `host:port`.

    Raises:
        InputError: No cluster answers there. It is raised within seconds; Ray itself would wait for minutes.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: Ray Client is not supported; run winnow on a node of the cluster (--address auto), or submit "
            "it as a Ray job (docs/cluster.md)"
        )
    resolved = _running_address() if address == "auto" else address
    if resolved is None:
        raise InputError(
            "--address auto: no Ray runs on this machine; start one with `ray start --head`, or give its host:port"
        )
    option = f"--address {address}" + (f" ({resolved})" if resolved != address else "")
    host, colon, port = resolved.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"--address {address}: give auto, or host:port such as 10.0.0.5:6379")
    problem = _no_answer(host.strip("[]"), int(port))
    if problem is not None:
        raise InputError(f"{option}: no Ray cluster answers there ({problem})")
    return resolved


def plan_on_cluster(
    ray: Any,
    devices: DeviceOptions,
    num_trials: int,
    address: str,
    measure: Measure | None = None,
    recorded: RecordedPacking | None = None,
) -> ResourcePlan:
    """Plan a search for the resources that the cluster has or can grow to.

    `--device cpu --gpus-per-trial 1` reserves a GPU for each trial but trains on the CPU, so that placement can be tried
    without any GPU.

    Args:
        ray: The `ray` module, connected to the cluster.
        devices: The device options of the command.
        num_trials: Number of trials of the search, which limits how many run at once.
        address: `host:port` of the cluster.
        measure: Measures how many trials should share a device. Default: one trial per device.
        recorded: Packing of an earlier start of the run. Default: there is none.

    Returns:
        The plan.

    Raises:
        InputError: The cluster does not have the GPUs that were asked for, and cannot get them.
    """
    available = capacity(ray, devices, address)
    gpus = devices.gpus_per_trial or 0.0
    if gpus > available.gpus:
        raise InputError(
            f"--gpus-per-trial {gpus:g}: the cluster has {available.gpus:g} GPUs"
            + (" with all that the autoscaler may start" if available.grows else _HOW_TO_GROW)
        )
    if devices.device == "cuda" and not available.gpus:
        raise InputError(f"--device cuda: the cluster has no GPU{_HOW_TO_GROW}")
    each = [resources for count, resources in available.kinds for _ in range(count)]
    inventory = Inventory(
        tuple((resources.get("CPU", 0.0), resources.get("GPU", 0.0)) for resources in each),
        int(ray.cluster_resources().get("GPU", 0)),
        tuple(map(kind_of_gpu, each)),
        frozenset(
            kind_of_gpu(node["Resources"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")
        )
        - {""},
    )
    if not (devices.device == "cpu" and gpus):
        plan = share_out(inventory, devices, num_trials, measure, recorded)
        if devices.device == "auto" and not available.gpus:
            plan = replace(plan, explanation=f"{plan.explanation}; the cluster has no GPU{_HOW_TO_GROW}")
        return plan
    plan = share_out(inventory, replace(devices, device="cuda"), num_trials)
    return replace(plan, device="cpu")


_HOW_TO_GROW = "; if an autoscaler may start nodes, set the largest totals with --num-gpus and --num-cpus"


def capacity(ray: Any, devices: DeviceOptions, address: str) -> Capacity:
    """Return the resources that the cluster has, or can grow to.

    The limit of its growth is read from the file that `ray up` left on this machine, or given by `--num-gpus` and `--num-cpus`.

    Args:
        ray: The `ray` module, connected to the cluster.
        devices: The device options of the command.
        address: `host:port` of the cluster.
    """
    now: list[Kind] = [(1, node["Resources"]) for node in ray.nodes() if node["Alive"]]
    on_head = address.rpartition(":")[0] == ray.util.get_node_ip_address()
    kinds = _launcher_kinds() if on_head else []
    if _sum(kinds, "GPU") < _sum(now, "GPU") or _sum(kinds, "CPU") < _sum(now, "CPU"):
        kinds = now
    requested = {"CPU": devices.num_cpus, "GPU": devices.num_gpus}
    missing = {key: max(0.0, (amount or 0.0) - _sum(kinds, key)) for key, amount in requested.items()}
    if any(missing.values()):
        kinds = [*kinds, (1, missing)]  # how it will be spread over nodes is not known
    cpus, gpus = (_sum(kinds, key) if requested[key] is None else float(requested[key] or 0) for key in ("CPU", "GPU"))
    return Capacity(kinds, cpus, gpus, grows=cpus > _sum(now, "CPU") or gpus > _sum(now, "GPU"))


def _sum(kinds: list[Kind], key: str) -> float:
    return sum(count * resources.get(key, 0.0) for count, resources in kinds)


@contextmanager
def grown(plan: ResourcePlan) -> Iterator[None]:
    """Request resources for all concurrent trials from the autoscaler at once.

    Tune alone would request them one trial at a time. Its requests also name the nodes that were checked. No autoscaler
    can start a node with such a name, so a lost node would not be replaced.

    Args:
        plan: The resource plan of the search.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=plan.bundles)
    try:
        yield
    finally:
        request_resources(bundles=[])


def _running_address() -> str | None:
    """Find the cluster as `ray.init("auto")` does: by RAY_ADDRESS, which a Ray job has, or by the Ray that runs on this machine."""
    # Ray has no public way to ask for the address without connecting, and connecting to a dead one takes 40 s and more.
    from ray._private.services import canonicalize_bootstrap_address

    try:
        address = canonicalize_bootstrap_address("auto")
    except (ConnectionError, ValueError):
        return None
    return None if address is None else str(address)


def _no_answer(host: str, port: int) -> str | None:
    """Return the reason why no Ray head node answers; None if one does."""
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        return error.strerror or str(error)
    # In a separate process: Ray's client waits 40 s for a server that is not Ray's, and prints to the terminal meanwhile.
    ask = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--skip-version-check",
        "--address",
        f"{host}:{port}",
    ]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=4 * ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return f"something listens there, but does not answer as Ray within {4 * ANSWER_SECONDS:.0f} s"
    if answer.returncode == 0 or "Authentication" in answer.stderr:  # `ray.init` explains problems with the token
        return None
    return "something listens there, but it is not a head node of Ray"


def _launcher_kinds() -> list[Kind]:
    """Return every node type in the file of `ray up` with its largest number of nodes; empty if there is no such file."""
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return []
    workers = config.get("max_workers", 0)
    head = config.get("head_node_type")
    return [
        (1 if name == head else min(workers, kind.get("max_workers", workers)), kind.get("resources") or {})
        for name, kind in (config.get("available_node_types") or {}).items()
    ]
