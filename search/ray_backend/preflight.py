"""Checks before the first trial that every node of a cluster has what a trial needs, and reports all problems at once."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from winnow.search.resources.gpus import examine
from winnow.search.storage import remote as storage
from winnow.search.storage.leftovers import new_probe
from winnow.search.storage.provenance import versions
from winnow.spaces.errors import InputError

PATIENCE_SECONDS = 120.0  # time for a node to fetch code and data and to answer


@dataclass(frozen=True)
class Demands:
    """The requirements for a node.

    Attributes:
        versions: Required versions of Python and packages, by name.
        shared: The path or URI that workers write to.
        probe: Name of the test files there.
        device: `cpu` or `cuda`.
    """

    versions: dict[str, str]
    shared: str
    probe: str
    device: str


class NodeCheck:
    """A check of some nodes, which answer while the driver continues with other work."""

    def __init__(
        self, ray: Any, nodes: Sequence[dict[str, Any]], data: Sequence[tuple[Any, str]], shared: str, device: str
    ) -> None:
        """Start a task on each node.

        Args:
            ray: The `ray` module, connected to the cluster.
            nodes: The nodes to check, as items of `ray.nodes()`.
            data: (reference in the object store, fingerprint) of the images.
            shared: The path or URI that workers write to.
            device: `cpu` or `cuda`.

        Raises:
            OSError: The driver cannot write to `shared`.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray = ray
        self._demands = Demands(versions(), shared, new_probe(), device)
        self._nodes = nodes
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        storage.write(storage.join(shared, self._demands.probe), self._demands.probe.encode())
        # With max_calls=1 the process ends after the task, and frees its share of a GPU.
        remote = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(_examine_node)
        self._waiting = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                list(data), self._demands, node["NodeID"], node["Resources"].get("GPU", 0.0)
            ): node
            for node in nodes
        }

    @property
    def is_done(self) -> bool:
        """Whether `answers` has returned the problems of every node."""
        return not self._waiting

    def answers(self, seconds: float) -> list[tuple[dict[str, Any], list[str]]]:
        """Return (node, its problems) of each node that has answered since the last call or has missed the deadline.

        Args:
            seconds: Longest time to wait until all nodes have answered, in seconds.
        """
        ready, silent = self._ray.wait(list(self._waiting), num_returns=len(self._waiting), timeout=seconds)
        results = [(self._waiting.pop(reference), _answer(self._ray, reference)) for reference in ready]
        if time.monotonic() >= self._deadline:
            for reference in silent:
                self._ray.cancel(reference, force=True)
                results.append((self._waiting.pop(reference), [f"no answer within {PATIENCE_SECONDS:.0f} s"]))
        for node, problems in results:
            if not problems and not _wrote(self._demands, node["NodeID"]):
                problems.append(_not_shared(self._demands.shared))
        if self.is_done:
            self.close()
        return results

    def close(self) -> None:
        """Delete the test files."""
        for name in ("", *(f"-{node['NodeID']}" for node in self._nodes)):
            storage.delete(storage.join(self._demands.shared, self._demands.probe + name))


def check_nodes(ray: Any, data: Sequence[tuple[Any, str]], shared: str, device: str) -> frozenset[str]:
    """Check every node of the cluster, and return the ids of the nodes.

    Args:
        ray: The `ray` module, connected to the cluster.
        data: (reference in the object store, fingerprint) of the images. Every node holds a copy afterwards.
        shared: The path or URI that workers write to.
        device: `cpu` or `cuda`.

    Raises:
        InputError: Some nodes cannot run trials, and the message lists every problem of every node; or the driver cannot write to
            `shared`.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]
    try:
        check, results = NodeCheck(ray, nodes, data, shared, device), []
    except OSError as error:  # not converted in `NodeCheck`: while a search runs, an OSError lets its epochs end
        raise InputError(
            f"{shared}: cannot write there ({error.strerror or error}); nothing was started. Free some space or repair the folder, then "
            "start the command again"
        ) from error
    try:
        while not check.is_done:
            results += check.answers(PATIENCE_SECONDS)
    finally:
        check.close()
    lines = [f"  {label(node)}: {problem}" for node, problems in results for problem in problems]
    if lines:
        num_bad = sum(bool(problems) for _, problems in results)
        raise InputError(f"{num_bad} of {len(nodes)} nodes cannot run trials; nothing was started\n" + "\n".join(lines))
    return frozenset(node["NodeID"] for node in nodes)


def _examine_node(data: list[tuple[Any, str]], demands: Demands, node_id: str, num_gpus: float) -> list[str]:
    """Check a node from a task that runs on it. If versions or storage are wrong, further checks are skipped.

    Args:
        data: (reference in the object store, fingerprint) of each data set.
        demands: The requirements for the node.
        node_id: Ray's id of the node, which names its test file.
        num_gpus: GPUs that Ray declares for the node.

    Returns:
        Its problems, one sentence each; empty if it can run trials.
    """
    problems = [*_versions_problems(demands.versions), *_storage_problems(demands, node_id)]
    if problems:
        return problems
    problems = [problem for reference, fingerprint in data for problem in _data_problems(reference, fingerprint)]
    return [*problems, *_gpu_problems(num_gpus if demands.device == "cuda" else 0)]


def _versions_problems(expected: dict[str, str]) -> list[str]:
    """Compare versions: Python's up to the minor version, those of packages without a suffix such as +cu126 (a build of torch)."""
    installed = versions()
    return [
        f"{name} is {'not installed' if installed[name] == 'unknown' else installed[name]}, but the driver has {version}"
        for name, version in expected.items()
        if _comparable(name, installed[name]) != _comparable(name, version)
    ]


def _comparable(name: str, version: str) -> str:
    public = version.partition("+")[0]
    return ".".join(public.split(".")[:2]) if name == "python" else public


def _storage_problems(demands: Demands, node_id: str) -> list[str]:
    own = storage.join(demands.shared, f"{demands.probe}-{node_id}")
    try:
        if storage.read(storage.join(demands.shared, demands.probe)) != demands.probe.encode():
            return [f"reads other content in {demands.shared} than the driver wrote"]
    except FileNotFoundError:
        return [_not_shared(demands.shared)]
    except Exception as error:  # every fsspec package has its own errors
        return [f"cannot read {demands.shared} ({type(error).__name__}: {error})"]
    try:
        storage.write(own, node_id.encode())
    except Exception as error:
        return [f"cannot write {demands.shared} ({type(error).__name__}: {error})"]
    return []


def _wrote(demands: Demands, node_id: str) -> bool:
    """Return whether the driver sees the file that the node wrote."""
    try:
        return storage.read(storage.join(demands.shared, f"{demands.probe}-{node_id}")) == node_id.encode()
    except FileNotFoundError:
        return False


def _not_shared(shared: str) -> str:
    return (
        f"does not see the files of {shared} that the driver sees; set --storage to a location that every node can reach "
        "(s3://bucket/runs, or a folder that all nodes mount), or put --runs-dir there"
    )


def _data_problems(reference: Any, expected: str) -> list[str]:
    """Fetch the images and compare their fingerprint. They stay in the node's object store for its workers."""
    import ray

    from winnow.search.data.image_data import fingerprint

    try:
        arrived = fingerprint(ray.get(reference))
    except ray.exceptions.RayError as error:
        return [f"cannot fetch the images ({_last_line(error)})"]
    return [] if arrived == expected else [f"the images that arrived have the fingerprint {arrived}, not {expected}"]


def _gpu_problems(num_gpus: float) -> list[str]:
    """Run a kernel on each GPU, and return the reasons why torch cannot use GPUs that the node declares."""
    if not num_gpus:
        return []
    import torch

    report = examine(torch)
    seen = len(report.usable)
    if report.problems or report.has_slices or seen >= num_gpus:
        return list(report.problems)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [
        f"Ray declares {num_gpus:g} GPUs there, but torch {torch.__version__} sees {seen}"
        + (f" (CUDA_VISIBLE_DEVICES={visible})" if visible is not None else "")
    ]


def _answer(ray: Any, reference: Any) -> list[str]:
    try:
        return list(ray.get(reference))
    except (
        ray.exceptions.RayError
    ) as error:  # the task's environment could not be created, it died, or an import failed
        return [f"could not run the check ({_last_line(error)})"]


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__


def label(node: dict[str, Any]) -> str:
    """Return a label of a node with its host, address and id, because one host may run several nodes."""
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"
