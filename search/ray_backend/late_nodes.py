"""Checks nodes that join a cluster before they get trials or retrainings. A node that fails the check is reported and not used.

Ray places a trial on any node that has room. The placement groups of trials therefore require one of the checked nodes, by the
label with its id that Ray gives every node. A group that still waits is requested again when another node has passed the check
or when a node is lost.

In a cluster with several kinds of GPU, each kind runs its own number of trials per GPU. All trials request the same amount, which is
the smallest share. The placement group of a trial is made for the kind that has the most free places at that time, and reserves that
kind's share of a GPU. A trial is not tied to a kind: if its nodes are lost, a new group is made for another kind.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

from ray.air.execution.resources import PlacementGroupResourceManager, ResourceRequest
from ray.tune.execution import tune_controller
from ray.util.placement_group import PlacementGroup, placement_group

from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.ray_backend.preflight import NodeCheck, label
from winnow.search.resources.inventory import kind_of_gpu

SECONDS_BETWEEN_LOOKS = 1.0
NO_NODE = "0" * 56
"""The id of no node. Ray (2.60) reads ids in the selector of a task as hexadecimal digits of this length, and ends the process if they are not."""


class NodeWatch(NotPickled):
    """Keeps track of the nodes that may get trials, and checks those that join.

    Attributes:
        num_changes: How often the set of nodes that may get trials has changed.
    """

    def __init__(
        self,
        ray: Any,
        checked: frozenset[str],
        data: Sequence[tuple[Any, str]],
        shared: str,
        device: str,
        say: Callable[[str], None],
        shares: Mapping[str, float] | None = None,
    ) -> None:
        """Begin with the nodes that `check_nodes` has checked.

        Args:
            ray: The `ray` module, connected to the cluster.
            checked: Ids of the nodes that have passed the check.
            data: (reference, fingerprint) of the images.
            shared: The path or URI that workers write to.
            device: `cpu` or `cuda`.
            say: Receives a message about each node that joins.
            shares: The share of a GPU for each trial, by kind of GPU; the empty kind stands for all others. Default: all kinds are
                treated alike.
        """
        self.num_changes = 0
        self._ray = ray
        self._shares = dict(shares or {})
        self._sound = set(checked)
        self._resources = {node["NodeID"]: node["Resources"] for node in ray.nodes()} if shares else {}
        self._known = set(checked)
        self._check = partial(NodeCheck, data=data, shared=shared, device=device)
        self._checks: list[NodeCheck] = []
        self._say = say
        self._next_look = 0.0

    @property
    def sound(self) -> frozenset[str]:
        """Ids of the nodes that may get trials now."""
        return frozenset(self._sound)

    def room(self, needs: Mapping[str, float]) -> int:
        """Return how many trainings these nodes can run at once.

        Args:
            needs: Amounts of `cpu` and `gpu` that a training reserves.
        """
        amounts = {key.upper(): amount for key, amount in needs.items() if amount > 0}
        resources = [self._resources.get(node_id, {}) for node_id in self._sound]
        return sum(
            min(_fitting(of_node.get(key, 0.0), amount) for key, amount in amounts.items()) for of_node in resources
        )

    def placement(
        self, bundles: Sequence[Mapping[str, float]], held: Iterable[str]
    ) -> tuple[str, list[dict[str, float]], dict[str, str]]:
        """Decide where the next trial is placed.

        Args:
            bundles: The resources that the trial requests.
            held: The kind of GPU of each trial that has been placed already.

        Returns:
            The kind of GPU, the bundles to reserve there, and the label selector that matches exactly the nodes that may get the
            trial. The kind is empty if all kinds are treated alike.
        """
        if not self._shares:
            return "", [dict(bundle) for bundle in bundles], node_selector(self._sound)
        nodes: dict[str, set[str]] = {kind: set() for kind in self._shares}
        free = {kind: -float(number) for kind, number in Counter(held).items() if kind in nodes}
        for node_id in self._sound:
            resources = self._resources.get(node_id, {})
            kind = kind_of_gpu(resources)
            kind = kind if kind in self._shares else ""
            if resources.get("GPU"):
                nodes[kind].add(node_id)
                free[kind] = free.get(kind, 0.0) + resources["GPU"] * int(1 / self._shares[kind])
        kind = max((kind for kind in nodes if nodes[kind]), key=lambda kind: (free.get(kind, 0.0), kind), default="")
        reserved = [{**bundle, **({"GPU": self._shares[kind]} if "GPU" in bundle else {})} for bundle in bundles]
        return kind, reserved, node_selector(nodes[kind])

    def look(self) -> None:
        """Start to check new nodes, and read the results of earlier checks. Calls within a second of the last one do nothing."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
        self._resources = {node_id: node.get("Resources", {}) for node_id, node in alive.items()}
        self.num_changes += not self._sound <= alive.keys()
        self._sound &= alive.keys()
        joined = [node for node_id, node in alive.items() if node_id not in self._known]
        self._known.update(node["NodeID"] for node in joined)
        if joined:
            self._checks.append(self._check(self._ray, joined))
        for node, problems in [answer for check in self._checks for answer in check.answers(0)]:
            if node["NodeID"] not in alive:
                continue
            if problems:
                self._say(f"{label(node)} joined but is not used, since it cannot run trials: {'; '.join(problems)}")
            else:
                self._say(f"{label(node)} joined and is ready")
                self._sound.add(node["NodeID"])
                self.num_changes += 1
        self._checks = [check for check in self._checks if not check.is_done]

    def close(self) -> None:
        """Delete the test files of checks that have not ended."""
        for check in self._checks:
            check.close()


def _fitting(total: float, amount: float) -> int:
    """Return how often an amount fits into a node's total. Each share of a GPU lies on a single GPU."""
    if amount < 1:
        return int(total) * int(1 / amount)
    return int(total / amount)


def node_selector(nodes: Iterable[str]) -> dict[str, str]:
    """Return Ray's label selector that matches exactly the nodes with these ids; without ids, no node."""
    return {"ray.io/node-id": f"in({','.join(sorted(nodes)) or NO_NODE})"}


class _OnCheckedNodes(PlacementGroupResourceManager):
    """Ray's manager of placement groups, restricted to nodes that have passed the check."""

    def __init__(self, nodes: NodeWatch | None = None, update_interval_s: float = 0.1) -> None:
        super().__init__(update_interval_s)
        if nodes is not None:  # its `clear` initialises it again
            self._nodes = nodes
            self._num_changes = nodes.num_changes
        self._kinds: dict[PlacementGroup, str] = {}

    def request_resources(self, resource_request: ResourceRequest) -> None:
        """Request a placement group as Ray's manager does, but with a label selector and the GPU share of the chosen nodes."""
        self._kinds = {group: kind for group, kind in self._kinds.items() if group in self._pg_to_request}
        kind, bundles, selector = self._nodes.placement(resource_request.bundles, self._kinds.values())
        group = placement_group(bundles, resource_request.strategy, bundle_label_selector=[selector] * len(bundles))
        self._kinds[group] = kind
        future = group.ready()
        self._pg_to_request[group] = resource_request
        self._request_to_staged_pgs[resource_request].add(group)
        self._staging_future_to_pg[future] = group
        self._pg_to_staging_future[group] = future

    def update_state(self) -> None:
        """Request the waiting groups again if the set of nodes that may run them has changed."""
        super().update_state()
        if self._num_changes == self._nodes.num_changes:
            return
        self._num_changes = self._nodes.num_changes
        waiting = [request for request, groups in self._request_to_staged_pgs.items() for _ in groups]
        for request in waiting:
            self.cancel_resource_request(request)
        for request in waiting:
            self.request_resources(request)


@contextmanager
def _placed_on(nodes: NodeWatch) -> Iterator[None]:
    manager = partial(_OnCheckedNodes, nodes)
    try:
        with patch.object(tune_controller, "PlacementGroupResourceManager", manager):  # Tune has no setting for this
            yield
    finally:
        nodes.close()


def on_checked_nodes(nodes: NodeWatch | None) -> Any:
    """Return a context in which Tune places trials only on the nodes of a `NodeWatch`; on any node if it is None."""
    return nullcontext() if nodes is None else _placed_on(nodes)
