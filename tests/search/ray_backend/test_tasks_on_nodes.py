"""Retrainings in a cluster whose nodes come and go: only nodes that passed their check run them, and later nodes take what waits."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from tests.search.ray_backend.test_late_nodes import InstantCheck, node
from winnow.search.ray_backend import late_nodes, tasks
from winnow.search.ray_backend.late_nodes import NodeWatch
from winnow.search.ray_backend.tasks import run_tasks

ONE_CPU = {"cpu": 1.0, "gpu": 0.0}


class RayError(Exception):
    pass


class UnschedulableError(RayError):
    pass


class OtherError(RayError):
    pass


class Cluster:
    """Stands in for Ray: a task runs on a node that its selector names, as soon as one has a free CPU, and ends when `events` is empty.

    `events` are called in turn, each when nothing more can be placed.
    """

    exceptions = SimpleNamespace(
        RayError=RayError,
        OutOfMemoryError=OtherError,
        RayTaskError=OtherError,
        TaskUnschedulableError=UnschedulableError,
    )

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.members = list(nodes)
        self.events: deque[Any] = deque()
        self.running: dict[int, str] = {}
        self.selectors: dict[int, str] = {}
        self.items: dict[int, Any] = {}
        self.cancelled: list[int] = []
        self.occupied: set[str] = set()
        self.most = 0
        self.ran_on: list[tuple[Any, str]] = []

    def nodes(self) -> list[dict[str, Any]]:
        if self.events and not any(each["Alive"] for each in self.members):
            self.events.popleft()()
        return self.members

    def remote(self, **options: Any) -> Any:
        return lambda function: SimpleNamespace(options=lambda label_selector: Submission(self, label_selector))

    def wait(self, references: list[int], num_returns: int, timeout: float) -> tuple[list[int], list[int]]:
        gone = [each for each in references if each in self.cancelled or self.is_lost(each)]
        if gone:
            return gone[:1], []
        for reference in references:
            if reference not in self.running:
                self.place(reference)
        self.most = max(self.most, len(self.running))
        if self.events:
            self.events.popleft()()
            return [], references
        done = [each for each in references if each in self.running][:1]
        return done, []

    def place(self, reference: int) -> None:
        for member in self.members:
            name = member["NodeID"]
            num_running = sum(where == name for where in self.running.values())
            if (
                member["Alive"]
                and name not in self.occupied
                and name in self.selectors[reference]
                and num_running < member["Resources"]["CPU"]
            ):
                self.running[reference] = name
                return

    def is_lost(self, reference: int) -> bool:
        return any(not each["Alive"] and each["NodeID"] == self.running.get(reference) for each in self.members)

    def get(self, reference: int) -> str:
        where = self.running.pop(reference, None)
        if (
            reference in self.cancelled
            or where is None
            or any(not n["Alive"] and n["NodeID"] == where for n in self.members)
        ):
            raise RayError("its node died")
        self.ran_on.append((self.items[reference], where))
        return where

    def cancel(self, reference: int, force: bool) -> None:
        self.cancelled.append(reference)

    def dies(self, name: str) -> None:
        next(each for each in self.members if each["NodeID"] == name)["Alive"] = False


class Submission:
    def __init__(self, cluster: Cluster, selector: dict[str, str]) -> None:
        self.cluster = cluster
        (self.selector,) = selector.values()

    def remote(self, function: Any, item: Any) -> int:
        reference = len(self.cluster.selectors)
        self.cluster.selectors[reference], self.cluster.items[reference] = self.selector, item
        return reference


@pytest.fixture(autouse=True)
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_nodes, "NodeCheck", InstantCheck)
    monkeypatch.setattr(late_nodes, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(tasks, "SECONDS_WITHOUT_NODES", 0.0)
    monkeypatch.setattr(InstantCheck, "problems", {})


def run(cluster: Cluster, num: int, lines: list[str] | None = None) -> dict[int, Any]:
    say = (lines if lines is not None else []).append
    watch = NodeWatch(cluster, frozenset({"a"}), [], "shared", "cpu", say)
    return dict(run_tasks(cluster, print, deque((item, (item,)) for item in range(num)), ONE_CPU, nodes=watch, say=say))


def test_a_later_node_takes_what_waits() -> None:
    cluster = Cluster(node("a", CPU=2.0))
    cluster.events.append(lambda: cluster.members.append(node("b", CPU=2.0)))
    cluster.events.append(lambda: None)
    results = run(cluster, 7)
    assert sorted(results) == list(range(7))
    assert [cluster.selectors[reference] for reference in range(2)] == ["in(a)"] * 2  # the others waited for a place
    assert set(list(cluster.selectors.values())[2:]) == {"in(a,b)"}
    assert cluster.most == 4
    assert {where for _, where in cluster.ran_on} == {"a", "b"}


def test_a_wrong_node_gets_nothing() -> None:
    InstantCheck.problems = {"b": ["optuna is 4.9.0, but the driver has 5.0.0"]}
    cluster, lines = Cluster(node("a", CPU=1.0)), []
    cluster.events.append(lambda: cluster.members.insert(0, node("b", CPU=8.0)))
    results = run(cluster, 3, lines)
    assert set(results.values()) == {"a"}
    assert len(lines) == 1
    assert "joined but is not used" in lines[0]


def test_what_ran_and_what_waited_on_a_lost_node_goes_on_elsewhere() -> None:
    """More often than a training may be lost by its own fault, since a lost node is not its fault."""
    cluster = Cluster(node("a", CPU=1.0))
    names = "abcdefg"
    for old, new in pairwise(names):
        cluster.events.append(lambda new=new: cluster.members.append(node(new, CPU=1.0)))
        cluster.events.append(lambda old=old: cluster.dies(old))
    results = run(cluster, 3)
    assert sorted(results) == [0, 1, 2]
    assert set(results.values()) == {"g"}


def test_what_waits_in_ray_for_a_lost_node_goes_to_another() -> None:
    """Somebody else's work fills the node until it goes, so Ray never starts the task there, and reports nothing lost."""
    cluster = Cluster(node("a", CPU=1.0))
    cluster.occupied.add("a")
    cluster.events.append(lambda: cluster.members.append(node("b", CPU=1.0)))
    cluster.events.append(lambda: cluster.dies("a"))
    assert run(cluster, 1) == {0: "b"}
    assert cluster.cancelled == [0]


def test_without_any_node_tasks_wait_for_one() -> None:
    cluster = Cluster(node("a", CPU=1.0))
    cluster.events.append(lambda: cluster.dies("a"))
    cluster.events.extend([lambda: None] * 3)
    cluster.events.append(lambda: cluster.members.append(node("b", CPU=1.0)))
    lines: list[str] = []
    assert set(run(cluster, 2, lines).values()) == {"b"}
    assert lines[0] == "waiting for a node that can run trainings, which need 1 CPUs each"
    assert len(lines) == 2  # the other says that `b` is ready


@pytest.mark.parametrize(
    ("needs", "room"),
    [
        ({"cpu": 2.0, "gpu": 0.0}, 4 + 2),
        ({"cpu": 1.0, "gpu": 0.5}, 4),
        ({"cpu": 1.0, "gpu": 0.3}, 6),  # three trainings on each GPU, since none uses two
        ({"cpu": 4.0, "gpu": 1.0}, 2),
        ({"cpu": 1.0, "gpu": 4.0}, 0),
    ],
)
def test_room(needs: dict[str, float], room: int) -> None:
    cluster = Cluster(node("a", CPU=8.0, GPU=2.0), node("other", CPU=5.0))
    InstantCheck.problems = {}
    watch = NodeWatch(cluster, frozenset({"a"}), [], "shared", "cuda", print)
    watch.look()
    assert watch.sound == {"a", "other"}
    assert watch.room(needs) == room


def test_ray_places_a_task_once_its_node_is_checked(shared_ray, tmp_path, monkeypatch) -> None:
    monkeypatch.undo()  # the real check
    lines: list[str] = []
    watch = NodeWatch(shared_ray, frozenset(), [], str(tmp_path), "cpu", lines.append)
    results = dict(run_tasks(shared_ray, _where, deque((n, ()) for n in range(3)), ONE_CPU, nodes=watch))
    (here,) = {each["NodeID"] for each in shared_ray.nodes()}
    assert set(results.values()) == {here}
    assert [line.rpartition(") ")[2] for line in lines] == ["joined and is ready"]


def _where() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
