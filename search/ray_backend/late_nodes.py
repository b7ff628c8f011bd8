"""Nodes that join a cluster during a search: each one is checked before it gets a trial, and a wrong one is set aside and named.

Ray places a trial on any node that has room. The placement groups of trials therefore ask for one of the nodes that were
checked, by the label with its id that Ray gives every node. A group that still waits is asked for again when another node has
passed the check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any
from unittest.mock import patch

from ray.air.execution.resources import PlacementGroupResourceManager, ResourceRequest
from ray.tune.execution import tune_controller
from ray.util.placement_group import placement_group

from winnow.search.ray_backend.not_pickled import NotPickled
from winnow.search.ray_backend.preflight import NodeCheck, label

SECONDS_BETWEEN_LOOKS = 1.0


class NodeWatch(NotPickled):
    """Knows the nodes that may get trials, and checks those that join.

    Attributes:
        num_joined: How many nodes have joined and passed the check.
    """

    def __init__(
        self,
        ray: Any,
        checked: frozenset[str],
        data: Sequence[tuple[Any, str]],
        shared: str,
        device: str,
        say: Callable[[str], None],
    ) -> None:
        """Begin with the nodes that `check_nodes` has checked; the other arguments are those of `check_nodes`.

        Args:
            ray: The `ray` module, connected to the cluster.
            checked: Ids of the nodes that have passed the check.
            data: (reference, fingerprint) of the images.
            shared: The path or URI that workers write to.
            device: `cpu` or `cuda`.
            say: Gets a line for each node that joins.
        """
        self.num_joined = 0
        self._ray = ray
        self._sound = set(checked)
        self._known = set(checked)
        self._check = partial(NodeCheck, data=data, shared=shared, device=device)
        self._checks: list[NodeCheck] = []
        self._say = say
        self._next_look = 0.0

    @property
    def selector(self) -> dict[str, str]:
        """The selector of labels that holds for the nodes that may get trials, and no other."""
        return {"ray.io/node-id": f"in({','.join(sorted(self._sound)) or 'none'})"}

    def look(self) -> None:
        """Start a check of nodes that are new, and read what others have answered; at most once a second."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + SECONDS_BETWEEN_LOOKS
        alive = {node["NodeID"]: node for node in self._ray.nodes() if node["Alive"]}
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
                self.num_joined += 1
        self._checks = [check for check in self._checks if not check.is_done]

    def close(self) -> None:
        """Delete the test files of checks that have not ended."""
        for check in self._checks:
            check.close()


class _OnCheckedNodes(PlacementGroupResourceManager):
    """Ray's manager of placement groups, which are placed on checked nodes only."""

    def __init__(self, nodes: NodeWatch | None = None, update_interval_s: float = 0.1) -> None:
        super().__init__(update_interval_s)
        if nodes is not None:  # its `clear` initialises it again
            self._nodes = nodes
            self._num_joined = nodes.num_joined

    def request_resources(self, resource_request: ResourceRequest) -> None:
        """Do what Ray's does, with a selector."""
        bundles = resource_request.bundles
        group = placement_group(
            bundles, resource_request.strategy, bundle_label_selector=[self._nodes.selector] * len(bundles)
        )
        future = group.ready()
        self._pg_to_request[group] = resource_request
        self._request_to_staged_pgs[resource_request].add(group)
        self._staging_future_to_pg[future] = group
        self._pg_to_staging_future[group] = future

    def update_state(self) -> None:
        """Ask again for the groups that wait if more nodes may have them by now."""
        super().update_state()
        if self._num_joined == self._nodes.num_joined:
            return
        self._num_joined = self._nodes.num_joined
        waiting = [request for request, groups in self._request_to_staged_pgs.items() for _ in groups]
        for request in waiting:
            self.cancel_resource_request(request)
        for request in waiting:
            self.request_resources(request)


@contextmanager
def _placed_on(nodes: NodeWatch) -> Iterator[None]:
    manager = partial(_OnCheckedNodes, nodes)
    try:
        with patch.object(tune_controller, "PlacementGroupResourceManager", manager):  # Tune has no setting for it
            yield
    finally:
        nodes.close()


def on_checked_nodes(nodes: NodeWatch | None) -> Any:
    """Return a context in which Tune places trials on the nodes of a `NodeWatch` only; None: on any."""
    return nullcontext() if nodes is None else _placed_on(nodes)
