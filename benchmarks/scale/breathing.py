"""A cluster that breathes: nodes come and go during a search. What share of the offered worker-seconds trains, and is anything lost?

    python -m benchmarks.scale.breathing [--minutes 10] [--seconds 20] [--nodes 2] [--slots 2] [--output FOLDER]

Real: Ray's nodes, each a set of processes of its own on this machine, Tune, the ledger and its journal, the check of each node that joins.
Simulated: the trainings, which sleep half a second for each epoch and continue after the last recorded one, so that many fit on a
small machine. The head stays; every `--seconds` either one node more joins, or the oldest of the others is killed without notice.
Every node offers its slots from the moment Ray counts it as alive until it is killed; a check or the start of a worker is a loss. Only
recorded epochs count as trained. Writes benchmarks/results/breathing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from benchmarks import RESULTS
from benchmarks.scale.scale import made_up_report, study_of
from winnow.search.data.source import Source, load_data
from winnow.search.ray_backend import tune
from winnow.search.ray_backend.preflight import check_nodes
from winnow.search.ray_backend.session import ray_session
from winnow.search.ray_backend.shared_data import Job, SharedData
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.provenance import hardware, versions
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog
from winnow.spaces.space import Space

EPOCH_SECONDS = 0.5
STORE_BYTES = 80_000_000


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="between two changes of the cluster")
    parser.add_argument("--nodes", type=int, default=2, help="that come and go, at most so many at once")
    parser.add_argument("--slots", type=int, default=2, help="of each node, and of the head")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    os.environ |= {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), options.minutes, options.seconds, options.nodes, options.slots)
    print("\n".join(f"{name}: {value}" for name, value in figures.items()))
    raw = {
        "options": {name: value for name, value in vars(options).items() if name != "output"},
        **figures,
        "load": os.getloadavg(),
        "hardware": hardware(),
        "versions": versions(),
    }
    (options.output / "breathing.json").write_text(json.dumps(raw, indent=2) + "\n")


def measure(folder: Path, minutes: float, seconds: float, num_nodes: int, num_slots: int) -> dict[str, Any]:
    """Run one search for so many minutes on a cluster that changes, and return the figures of the table."""
    from ray.cluster_utils import Cluster

    space = catalog.load("digits")
    settings = settings_for(
        space, trials=100_000, sampler="random", time_budget=f"{60 * minutes:g}s", trial_timeout=1e6
    )
    run = RunFolder(folder / "run")
    run.checkpoints.mkdir(parents=True)
    run.study.write_text(yaml.safe_dump(study_of(space, settings), sort_keys=False))
    ledger = Ledger(run, space, settings, (1, 8, 8))
    node = {"num_cpus": num_slots, "object_store_memory": STORE_BYTES}
    # Handlers of signals, which `shutdown_at_exit` sets, can be set in the main thread only, and nodes are added in another one.
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False}, shutdown_at_exit=False)
    messages: list[str] = []
    try:
        with ray_session(address=cluster.address) as ray, patch.object(tune, "run_trial", sleeping_trial):
            shared = str(run.checkpoints)
            data = share(ray, space)
            checked = check_nodes(ray, [(data.reference, data.fingerprint)], shared, "cpu")
            data = replace(data, checked_nodes=checked)
            job = Job(checkpoints=shared, device="cpu", threads=1, seed=0)
            breath = Breath(cluster, ray, node, seconds, num_nodes)
            with breath.going():
                outcome = tune.run_search(
                    ledger,
                    data,
                    job,
                    tune.Resources(1.0, 0.0),
                    (num_nodes + 1) * num_slots,
                    lambda line: _note(messages, line),
                )
    finally:
        cluster.shutdown()
    ledger.close()
    return _figures(run, outcome, breath.offered(), messages)


def share(ray: Any, space: Space) -> SharedData:
    """Put the images into Ray's object store. No trial reads them, but every node that joins computes their fingerprint.

    Args:
        ray: The `ray` module, connected.
        space: The space of the images.
    """
    images = load_data(space, Source(Path("data")))
    return SharedData(ray.put(images), fingerprint=images.fingerprint)


def sleeping_trial(config: dict[str, Any], data: SharedData, job: Job) -> None:
    """The trainable in the place of `run_trial`: it takes time, but no CPU, and continues after the last recorded epoch."""
    from ray import tune as ray_tune

    assignment = json.loads(config["assignment"])
    num_epochs = assignment["config"]["epochs"]
    for epoch in range(assignment["recorded"] + 1, num_epochs + 1):
        time.sleep(EPOCH_SECONDS)
        ray_tune.report(made_up_report(num_epochs, assignment, epoch, EPOCH_SECONDS))


class Breath:
    """Lets nodes join and go, and knows how long each one was there."""

    def __init__(self, cluster: Any, ray: Any, node: dict[str, Any], seconds: float, most: int) -> None:
        self._cluster, self._ray, self._node = cluster, ray, node
        self._seconds, self._most = seconds, most
        self._over = threading.Event()
        self._spans: list[tuple[float, float]] = []
        self.num_joined = self.num_killed = 0

    @contextmanager
    def going(self) -> Iterator[None]:
        began = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            breathing = pool.submit(self._breathe)
            try:
                yield
            finally:
                self._over.set()
                self._spans.append((began, time.monotonic()))  # the head
            breathing.result()  # a node that does not start is an error of the benchmark

    def offered(self) -> dict[str, float]:
        slots = self._node["num_cpus"]
        return {
            "worker-seconds offered": round(slots * sum(end - start for start, end in self._spans), 1),
            "nodes joined": self.num_joined,
            "nodes killed": self.num_killed,
        }

    def _breathe(self) -> None:
        present: list[tuple[Any, float]] = []
        grows = True
        while not self._over.wait(self._seconds):
            if grows:
                handle = self._cluster.add_node(**self._node)
                present.append((handle, time.monotonic()))
                self.num_joined += 1
            else:
                handle, since = present.pop(0)
                self._spans.append((since, time.monotonic()))
                self._cluster.remove_node(handle, allow_graceful=False)
                self.num_killed += 1
            grows = not present or (grows and len(present) < self._most)
        self._spans += [(since, time.monotonic()) for _, since in present]


def _note(messages: list[str], line: str) -> None:
    messages.append(line)
    print(line, file=sys.stderr, flush=True)


def _figures(run: RunFolder, outcome: tune.Outcome, offered: dict[str, float], messages: list[str]) -> dict[str, Any]:
    epochs = [(line["trial"], line["epoch"]) for line in read_json_lines(run.epochs)]
    reached = Counter(trial for trial, _ in epochs)
    trained = EPOCH_SECONDS * len(set(epochs))
    return {
        **offered,
        "worker-seconds trained": trained,
        "share, %": round(100 * trained / offered["worker-seconds offered"], 1),
        "epochs recorded": len(epochs),
        "epochs recorded twice": len(epochs) - len(set(epochs)),
        "epochs missing": sum(max(e for t, e in epochs if t == trial) - reached[trial] for trial in reached),
        "nodes set aside": sum("joined but is not used" in line for line in messages),
        "workers lost": sum("its worker was lost" in line for line in messages),
        "wall, s": round(outcome.wall_seconds, 1),
        "bug": outcome.bug,
    }


if __name__ == "__main__":
    main()
