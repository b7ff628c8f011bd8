"""Nodes that join during a search: they are checked before they get a trial, and a wrong one is set aside and named."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from winnow.search.ray_backend import late_nodes
from winnow.search.ray_backend.late_nodes import NO_NODE, NodeWatch, on_checked_nodes
from winnow.search.ray_backend.tune import Resources
from winnow.search.resources.inventory import kind_of_gpu
from winnow.search.storage.provenance import versions


class InstantCheck:
    """Stands in for `NodeCheck`: every node has answered when it is asked."""

    problems: dict[str, list[str]] = {}

    def __init__(self, ray, nodes, data, shared, device):
        self.nodes = list(nodes)

    @property
    def is_done(self):
        return not self.nodes

    def answers(self, seconds):
        answered, self.nodes = self.nodes, []
        return [(node, self.problems.get(node["NodeID"], [])) for node in answered]


def node(node_id: str, alive: bool = True, **resources: float) -> dict:
    return {
        "Resources": resources,
        "NodeID": node_id,
        "Alive": alive,
        "NodeManagerHostname": f"host-{node_id}",
        "NodeManagerAddress": "10.0.0.9",
    }


@pytest.fixture
def watch(monkeypatch):
    """A watch that may look at any time, on a cluster of one checked node `a`."""
    monkeypatch.setattr(late_nodes, "NodeCheck", InstantCheck)
    monkeypatch.setattr(late_nodes, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(InstantCheck, "problems", {})
    nodes, lines = [node("a")], []
    ray = SimpleNamespace(nodes=lambda: nodes)
    watch = NodeWatch(ray, frozenset({"a"}), [], "shared", "cpu", lines.append)
    return SimpleNamespace(watch=watch, nodes=nodes, lines=lines)


def selector(watch) -> dict[str, str]:
    return watch.watch.placement([{"CPU": 1.0}], [])[2]


def test_a_sound_node_may_get_trials_after_its_check(watch):
    watch.nodes.append(node("b"))
    assert selector(watch) == {"ray.io/node-id": "in(a)"}
    watch.watch.look()
    assert selector(watch) == {"ray.io/node-id": "in(a,b)"}
    assert watch.watch.num_changes == 1
    assert watch.lines == ["node host-b (10.0.0.9, b) joined and is ready"]


def test_a_wrong_node_is_named_once_and_gets_none(watch):
    InstantCheck.problems = {"b": ["optuna is 4.9.0, but the driver has 5.0.0"]}
    watch.nodes.append(node("b"))
    for _ in range(3):
        watch.watch.look()
    assert selector(watch) == {"ray.io/node-id": "in(a)"}
    assert watch.lines == [
        "node host-b (10.0.0.9, b) joined but is not used, since it cannot run trials: "
        "optuna is 4.9.0, but the driver has 5.0.0"
    ]


def test_a_node_that_went_gets_no_trial(watch):
    watch.nodes[:] = [node("a", alive=False), node("b")]
    watch.watch.look()
    assert selector(watch) == {"ray.io/node-id": "in(b)"}
    assert watch.watch.num_changes == 2  # one went, one joined
    watch.nodes.clear()
    watch.watch.look()
    assert selector(watch) == {"ray.io/node-id": f"in({NO_NODE})"}
    assert watch.watch.num_changes == 3


# --- several kinds of GPU -----------------------------------------------------------------------------------------------


class Group:
    """Stands in for a placement group."""

    def __init__(self, bundles, strategy, bundle_label_selector):
        (self.bundle,), (self.selector,) = bundles, bundle_label_selector

    def ready(self):
        return object()


@pytest.fixture
def mixed(monkeypatch):
    """A manager of placement groups on a node with an H100, which takes four trials, and one with two T4s that take two each."""
    for name, stand_in in {
        "ray.wait": lambda futures, num_returns, timeout: ([], futures),
        "ray.cancel": lambda future: None,
        "ray.util.remove_placement_group": lambda group: None,
    }.items():
        monkeypatch.setattr(name, stand_in)
    monkeypatch.setattr(late_nodes, "placement_group", Group)
    monkeypatch.setattr(late_nodes, "NodeCheck", InstantCheck)
    monkeypatch.setattr(late_nodes, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(InstantCheck, "problems", {})
    nodes = [
        node("head", CPU=4.0),
        node("h", CPU=8.0, GPU=1.0, **{"accelerator_type:H100": 1.0}),
        node("t", CPU=8.0, GPU=2.0, **{"accelerator_type:T4": 1.0}),
    ]
    shares = {"H100": 0.25, "T4": 0.5, "": 0.5}
    ray = SimpleNamespace(nodes=lambda: nodes)
    watch = NodeWatch(ray, frozenset({"head", "h", "t"}), [], "shared", "cuda", lambda line: None, shares)
    manager = late_nodes._OnCheckedNodes(watch)
    request = late_nodes.ResourceRequest([{"CPU": 1, "GPU": 0.25}])

    def groups() -> list[tuple[str, float]]:
        return sorted((group.selector["ray.io/node-id"], group.bundle["GPU"]) for group in manager._pg_to_request)

    yield SimpleNamespace(manager=manager, request=request, watch=watch, nodes=nodes, groups=groups)
    for groups_of in (manager._pg_to_request, manager._request_to_staged_pgs, manager._request_to_ready_pgs):
        groups_of.clear()


def test_trials_take_the_share_of_the_kind_of_gpu_where_they_are_placed(mixed):
    for _ in range(8):
        mixed.manager.request_resources(mixed.request)
    assert mixed.groups() == [("in(h)", 0.25)] * 4 + [("in(t)", 0.5)] * 4
    gone = next(group for group in mixed.manager._pg_to_request if group.bundle["GPU"] == 0.5)
    del mixed.manager._pg_to_request[gone]  # its trial ended
    mixed.manager.request_resources(mixed.request)
    assert mixed.groups() == [("in(h)", 0.25)] * 4 + [("in(t)", 0.5)] * 4


def test_a_trial_whose_kind_of_gpu_is_gone_is_placed_on_another(mixed):
    for _ in range(6):
        mixed.manager.request_resources(mixed.request)
    del mixed.nodes[1]
    mixed.watch.look()
    mixed.manager.update_state()
    assert mixed.groups() == [("in(t)", 0.5)] * 6  # all of them waited; four have room there
    mixed.nodes.append(node("x", CPU=8.0, GPU=4.0, **{"accelerator_type:L4": 1.0}))
    mixed.watch.look()
    mixed.manager.update_state()
    groups = mixed.groups()
    assert set(groups) == {("in(t)", 0.5), ("in(x)", 0.5)}  # an unknown kind takes what fits the weakest
    assert groups.count(("in(x)", 0.5)) >= 4


def test_every_trial_asks_for_what_fits_into_each_share():
    assert Resources(1.0, 0.5, {"H100": 0.125, "T4": 0.5, "": 0.5}).per_trial == {"cpu": 1.0, "gpu": 0.125}
    assert Resources(1.0, 0.5).per_trial == {"cpu": 1.0, "gpu": 0.5}


def test_a_trial_waits_for_a_checked_node(tmp_path, shared_ray):
    """Ray has room from the beginning, but no node was checked; the trial starts when one has passed, and keeps its request."""
    from ray import tune

    lines: list[str] = []
    watch = NodeWatch(shared_ray, frozenset(), [], str(tmp_path), "cpu", lines.append)

    class Look(late_nodes.NotPickled, tune.Stopper):
        def __call__(self, trial_id, result):
            return False

        def stop_all(self):
            watch.look()
            return False

    tuner = tune.Tuner(
        tune.with_resources(lambda config: tune.report({"score": 1.0}), {"cpu": 1}),
        run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), stop=Look(), verbose=0),
    )
    with on_checked_nodes(watch):
        results = tuner.fit()
    assert not results.errors
    assert len(results) == 1
    assert [line.rpartition(") ")[2] for line in lines] == ["joined and is ready"]
    assert not list(tmp_path.glob(".winnow-probe*"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_trials_of_tune_are_placed_on_checked_nodes(tmp_path, request):
    """A wrong and a right node join Ray while trials run and others wait for room: only the right one gets some."""
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster

    if ray.is_initialized():  # that of the other tests, beside which there can be no second one in this process
        again = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "slow", __file__, "-k", request.node.name]
        subprocess.run(again, check=True, timeout=390)
        return
    (tmp_path / "odd" / "optuna-4.9.0.dist-info").mkdir(parents=True)
    (tmp_path / "odd" / "optuna-4.9.0.dist-info" / "METADATA").write_text("Name: optuna\nVersion: 4.9.0\n")
    storage = tmp_path / "shared"
    storage.mkdir()
    store = {"object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **store})
    try:
        ray.init(cluster.address, log_to_driver=False)
        checked, lines = frozenset(found["NodeID"] for found in ray.nodes()), []
        watch = NodeWatch(ray, checked, [], str(storage), "cpu", lines.append)

        def add_nodes() -> dict[str, str]:
            path = f"{tmp_path / 'odd'}:{os.environ.get('PYTHONPATH', '')}"
            added = {
                "wrong": cluster.add_node(num_cpus=2, env_vars={"PYTHONPATH": path}, **store),
                "right": cluster.add_node(num_cpus=1, **store),
            }
            return {name: handle.node_id for name, handle in added.items()}

        ids: dict[str, str] = {}

        class Grow(late_nodes.NotPickled, tune.Callback):
            def on_trial_start(self, iteration, trials, trial, **info):
                if not ids:
                    ids.update(add_nodes())

        class Look(late_nodes.NotPickled, tune.Stopper):
            def __call__(self, trial_id, result):
                return False

            def stop_all(self):
                watch.look()
                return False

        def sleep(config):
            deadline = time.monotonic() + 100
            # The first trial holds the head until the right node has run one.
            while config["index"] == 0 and time.monotonic() < deadline and len(list(storage.glob("ran-*"))) < 2:
                time.sleep(0.2)
            (storage / f"ran-{config['index']}").write_text(ray.get_runtime_context().get_node_id())
            tune.report({"score": 1.0})

        tuner = tune.Tuner(
            tune.with_resources(sleep, {"cpu": 1}),
            param_space={"index": tune.grid_search(range(5))},
            run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), callbacks=[Grow()], stop=Look(), verbose=0),
        )
        with on_checked_nodes(watch):
            results = tuner.fit()
        assert not results.errors
        ran = {path.read_text() for path in storage.glob("ran-*")}
        assert ran == {*checked, ids["right"]}
        assert any("joined and is ready" in line for line in lines)
        (aside,) = [line for line in lines if "joined but is not used" in line]
        assert aside.endswith(f"optuna is 4.9.0, but the driver has {versions()['optuna']}")
        assert not list(storage.glob(".winnow-probe*"))
    finally:
        ray.shutdown()
        cluster.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_real_placement_groups_reserve_the_share_of_their_kind(tmp_path, request):
    """Two declared GPUs of different kinds: four trials run on one and two on the other, all at once."""
    import ray
    from ray import tune
    from ray.cluster_utils import Cluster

    from winnow.search.ray_backend.worker import _reserved_gpus

    if ray.is_initialized():
        again = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "slow", __file__, "-k", request.node.name]
        subprocess.run(again, check=True, timeout=390)
        return
    store = {"object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **store})
    try:
        for kind in ("H100", "T4"):
            cluster.add_node(num_cpus=4, num_gpus=1, resources={f"accelerator_type:{kind}": 1}, **store)
        ray.init(cluster.address, log_to_driver=False)
        shares = {"H100": 0.25, "T4": 0.5, "": 0.5}
        checked = frozenset(found["NodeID"] for found in ray.nodes())
        kinds = {found["NodeID"]: kind_of_gpu(found["Resources"]) for found in ray.nodes()}
        watch = NodeWatch(ray, checked, [], str(tmp_path), "cuda", print, shares)

        def hold(config):
            where = ray.get_runtime_context().get_node_id()
            (tmp_path / f"ran-{config['index']}").write_text(f"{kinds[where]} {_reserved_gpus()}")
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline and len(list(tmp_path.glob("ran-*"))) < 6:
                time.sleep(0.2)
            tune.report({"score": 1.0})

        tuner = tune.Tuner(
            tune.with_resources(hold, Resources(1.0, 0.5, shares).per_trial),
            param_space={"index": tune.grid_search(range(6))},
            run_config=tune.RunConfig(storage_path=str(tmp_path / "tune"), verbose=0),
        )
        with pytest.MonkeyPatch.context() as patch, on_checked_nodes(watch):
            patch.setenv("TUNE_MAX_PENDING_TRIALS_PG", "6")
            results = tuner.fit()
        assert not results.errors
        ran = sorted(path.read_text() for path in tmp_path.glob("ran-*"))
        assert ran == ["H100 0.25"] * 4 + ["T4 0.5"] * 2
    finally:
        ray.shutdown()
        cluster.shutdown()
