"""The real command on real Ray nodes: processes of their own, in an environment without Winnow, with declared GPUs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.nodes import ENVIRONMENT, Nodes, bare_python, free_port
from tests.search.storage.test_storage import install_shelf
from winnow.search.resources.child_processes import child_processes
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.provenance import versions

# The network of a user: it travels to the nodes, and there it notes on which node and GPU it trains and where its images lie.
# The lock on a GPU is held by the worker until it ends; a second worker on the same GPU would fail its trial.
WITNESS = """
import fcntl, gc, json, os, time
from torch import nn

held = []

class Pace(nn.Module):  # takes time, but no CPU
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds
    def forward(self, x):
        time.sleep(self.seconds)
        return x

def build(image_shape, num_classes, width, pace):
    import ray
    if ray.is_initialized() and ray.get_gpu_ids():
        note(ray)
    return nn.Sequential(Pace(pace), nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, num_classes))

def note(ray):
    node, folder = ray.get_runtime_context().get_node_id(), os.environ["WITNESS"]
    for gpu in ray.get_gpu_ids() if not held else ():
        held.append(open(f"{folder}/{node}-{gpu}.lock", "w"))
        fcntl.flock(held[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
    from winnow.search.data.image_data import ImageData
    (data,) = [found for found in gc.get_objects() if isinstance(found, ImageData)]
    address = data.train_images.ctypes.data
    for line in open("/proc/self/maps"):
        span, _, offset, device, inode = line.split()[:5]
        first, last = (int(part, 16) for part in span.split("-"))
        if first <= address < last:
            place = [device, inode, int(offset, 16) + address - first]
    found = {"pid": os.getpid(), "node": node, "address": ray.util.get_node_ip_address(), "gpus": ray.get_gpu_ids(), "images": place,
             "writeable": data.train_images.flags.writeable, "search": __import__("winnow.search", fromlist=["x"]).__file__}
    with open(f"{folder}/notes.jsonl", "a") as notes:
        notes.write(json.dumps(found) + "\\n")
"""
SPACE = """
data: digits
epochs: 12
batch_size: 64
model: {name: "witness:build", width: {int: [8, 64]}, pace: 0.0}
optimizer: {name: adam, lr: {log: [0.001, 0.01]}}
search: {trials: 16, grace_epochs: 12}
retrain: {top: 1, seeds: 2}
"""
ON_DECLARED_GPUS = ("--device", "cpu", "--gpus-per-trial", "1")


class Desk:
    """Where a user sits: a folder with a space and a model, and the command."""

    def __init__(self, folder: Path, nodes: Nodes) -> None:
        self.folder = folder
        self.nodes = nodes
        (folder / "witness.py").write_text(WITNESS)
        (folder / "space.yaml").write_text(SPACE)

    def start(self, *arguments: str, address: str | None = None, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                *(self.nodes.inside("head") if self.nodes.members else ()),
                *(sys.executable, "-m", "winnow", *arguments, "--address", address or self.nodes.address),
            ],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT, "SHELF": str(self.folder), "WITNESS": str(self.folder), **environment}
            | {"PYTHONPATH": f"{REPOSITORY}:{environment.get('PYTHONPATH', '')}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def winnow(self, *arguments: str, **more: str) -> tuple[int, str]:
        """(exit code, what was said on standard error)"""
        process = self.start(*arguments, **more)
        _, errors = process.communicate(timeout=600)
        return process.returncode, errors

    def notes(self) -> list[dict]:
        return list(read_json_lines(self.folder / "notes.jsonl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """Of the nodes: everything but Winnow, and an fsspec scheme of another package."""
    folder = tmp_path_factory.mktemp("bare")
    found = bare_python(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    install_shelf(site)
    missing = subprocess.run(
        [str(found), "-I", "-c", "import winnow.search"], cwd=folder, capture_output=True, text=True
    )
    assert "No module named 'winnow'" in missing.stderr
    return found


@pytest.fixture(scope="module")
def nodes(python, tmp_path_factory) -> Iterator[Nodes]:
    desk, shelf = (str(tmp_path_factory.mktemp(name)) for name in ("desk", "shelf"))
    started = Nodes(python, WITNESS=desk, SHELF=shelf)
    try:
        started.head(cpus=1)
        for name, gpus in (("one", 1), ("two", 2), ("three", 1)):
            started.worker(name, cpus=gpus, gpus=gpus)
        yield started
    finally:
        started.stop()


@pytest.fixture
def desk(nodes) -> Desk:
    folder = Path(nodes.environment["WITNESS"])
    (folder / "notes.jsonl").unlink(missing_ok=True)
    return Desk(folder, nodes)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_over_all_nodes_while_one_goes_and_one_comes(desk, nodes):
    run = desk.folder / "runs" / "moving"
    slowly = ("--set", "epochs=80", "--grace-epochs", "80", "--set", "model.pace=0.02")
    process = desk.start("run", "space.yaml", *ON_DECLARED_GPUS, "--name", "moving", *slowly)
    _wait(lambda: len({(note["node"], *note["gpus"]) for note in desk.notes()}) == 4, process)
    _wait(lambda: len(list(read_json_lines(run / "epochs.jsonl"))) > 60, process)
    nodes.remove("one")
    nodes.worker("four", cpus=1, gpus=1)
    assert process.poll() is None
    try:
        output, errors = process.communicate(timeout=400)
    finally:
        nodes.remove("four")
        nodes.worker("one", cpus=1, gpus=1)
    assert process.returncode == 0, output + errors
    notes = desk.notes()
    # Every declared GPU of the three nodes and of the one that came; a GPU taken twice would have failed a trial.
    gpus = {(note["node"], *note["gpus"]) for note in notes}
    assert len({node for node, _ in gpus}) == 4
    assert len(gpus) == 5
    _check_results(run, num_trials=16)
    # One copy of the images on each node: all its workers look at the same bytes of the same shared memory, and cannot write.
    copies = defaultdict(set)
    for note in notes:
        copies[note["node"]].add(tuple(note["images"]))
    assert {len(places) for places in copies.values()} == {1}
    assert not any(note["writeable"] for note in notes)
    assert len({note["pid"] for note in notes if note["node"] == _busiest(notes)}) >= 2
    # The code came with the search.
    assert all("runtime_resources" in note["search"] for note in notes)


@pytest.mark.slow
@pytest.mark.timeout(900)  # Ray Train starts six processes per trial: 240 s where nothing else runs
def test_trials_with_two_gpus_each_of_one_node_or_of_two(desk, nodes):
    """Nodes with one, two and one GPU for two trials at once: one trial has the node with two, the other spans the two others."""
    code, errors = desk.winnow(
        *("run", "space.yaml", "--device", "cpu", "--gpus-per-trial", "2", "--trials", "4", "--name", "spanning")
    )
    assert code == 0, errors
    _check_results(desk.folder / "runs" / "spanning", num_trials=4)
    gpus_of = defaultdict(set)  # of each process that trained
    for note in desk.notes():
        gpus_of[note["pid"]].update((note["node"], gpu) for gpu in note["gpus"])
    assert {len(gpus) for gpus in gpus_of.values()} == {1}
    assert (
        len(set.union(*gpus_of.values())) == 4
    )  # every declared GPU; one that was taken twice would have failed a trial
    node_of = {pid: node for pid, gpus in gpus_of.items() for node, _ in gpus}
    assert len(set(node_of.values())) == 3


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_workers_write_into_the_storage(desk, nodes, python):
    """A storage that only the fsspec package of the nodes and of this desk knows."""
    code, errors = desk.winnow(
        *("run", "space.yaml", *ON_DECLARED_GPUS, "--trials", "4", "--name", "stored", "--storage", "shelf://runs"),
        **_with_shelf(desk, python),
    )
    assert code == 0, errors
    run, shelf = desk.folder / "runs" / "stored", Path(nodes.environment["SHELF"])
    _check_results(run, num_trials=4)
    stored = sorted(path.name for path in shelf.rglob("*.*") if path.is_file())
    fetched = sorted(path.name for folder in ("checkpoints", "predictions") for path in (run / folder).iterdir())
    assert stored == fetched  # winners and predictions in both; checkpoints of trials, and probes, in neither
    assert len(fetched) == 4


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_nodes_lack_is_told_before_anything_starts(desk, nodes, python, tmp_path):
    """A node of other versions, and one that reads the storage but cannot write there: each with all that is wrong with it."""
    claims = {"python": "3.10.9", "optuna": "4.9.0"}
    other = bare_python(tmp_path / "other", versions=claims)
    install_shelf(*(tmp_path / "other").glob("lib/python*/site-packages"))
    nodes.worker("odd", cpus=1, python=other)
    nodes.worker("sealed", cpus=1, SEALED="1")
    try:
        code, errors = desk.winnow(
            *("search", "space.yaml", *ON_DECLARED_GPUS, "--name", "odd", "--storage", "shelf://runs"),
            **_with_shelf(desk, python),
        )
    finally:
        nodes.remove("odd")
        nodes.remove("sealed")
    assert code == 2
    assert "2 of 6 nodes cannot run trials; nothing was started" in errors
    told = [line.partition("): ") for line in errors.splitlines() if line.startswith("  node ")]
    (sealed,) = (node for node, _, problem in told if "cannot write shelf://runs (PermissionError: " in problem)
    odd = {node: [problem for of, _, problem in told if of == node] for node, _, _ in told if node != sealed}
    assert list(odd.values()) == [
        [f"{name} is {claimed}, but the driver has {versions()[name]}" for name, claimed in claims.items()]
    ]
    assert "Traceback" not in errors
    assert not (desk.folder / "runs" / "odd").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_driver_with_another_python_than_the_cluster(desk, tmp_path):
    """Ray wants the same patch version everywhere."""
    other = "import sys, collections; "
    other += "V = collections.namedtuple('V', 'major minor micro releaselevel serial'); "
    other += "sys.version_info = V(*sys.version_info[:2], 99, 'final', 0)"
    (tmp_path / "sitecustomize.py").write_text(other)
    code, errors = desk.winnow("search", "space.yaml", "--name", "other", PYTHONPATH=str(tmp_path))
    assert code == 2
    assert "cannot join the cluster: Version mismatch: The cluster was started with: Ray:" in errors
    assert ".99" in errors
    assert "Traceback" not in errors
    assert not (desk.folder / "runs" / "other").exists()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*ON_DECLARED_GPUS, "--storage", "memory://runs"), "does not see the files of memory://runs"),
        (
            ("--device", "cpu", "--gpus-per-trial", "3"),
            "--gpus-per-trial 3 does not divide the 4 GPUs: 1 would be idle",
        ),
        (("--gpus-per-trial", "1"), "nodes cannot run trials; nothing was started"),
    ],
)
def test_bad_input(desk, arguments, message):
    code, errors = desk.winnow("search", "space.yaml", *arguments, "--name", "bad")
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not (desk.folder / "runs" / "bad").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dies", ["head", "gcs_server"])
def test_a_search_whose_head_dies_is_continued_on_another_ray(tmp_path, dies):
    nodes = Nodes(WITNESS=str(tmp_path))
    desk, run = Desk(tmp_path, nodes), tmp_path / "runs" / "r"
    slowly = ("--trials", "4", "--set", "epochs=6", "--grace-epochs", "6", "--set", "model.pace=0.05")
    try:
        nodes.head(cpus=2)
        process = desk.start("search", "space.yaml", "--name", "r", *slowly)
        _wait(lambda: len(list(read_json_lines(run / "epochs.jsonl"))) > 3, process)
        if dies == "head":
            nodes.remove("head")
        else:
            child_processes([dies], nodes.processes["head"].pid, recursive=True)[0].kill()
        output, errors = process.communicate(timeout=200)
    finally:
        nodes.stop()
    assert process.returncode not in (0, 2), output + errors
    before = list(read_json_lines(run / "epochs.jsonl"))
    again = subprocess.run([sys.executable, "-m", "winnow", "resume", "runs/r"], cwd=tmp_path, capture_output=True)
    assert again.returncode == 0, again.stderr
    after = list(read_json_lines(run / "epochs.jsonl"))
    assert after[: len(before)] == before
    assert sorted((line["trial"], line["epoch"]) for line in after) == [(t, e) for t in range(4) for e in range(1, 7)]


@pytest.mark.slow
def test_an_address_that_does_not_answer(tmp_path):
    desk = Desk(tmp_path, Nodes())
    started = time.monotonic()
    code, errors = desk.winnow("search", "space.yaml", address=f"127.0.0.1:{free_port()}")
    assert code == 2
    assert "no Ray cluster answers there (Connection refused)" in errors
    assert time.monotonic() - started < 60  # Python's own start on a busy machine is most of it
    code, errors = desk.winnow("search", "space.yaml", address="ray://127.0.0.1:10001")
    assert code == 2
    assert "Ray Client is not supported" in errors
    assert not (tmp_path / "runs").exists()


def _check_results(run: Path, num_trials: int) -> None:
    """Every trial ended well, every epoch was recorded once."""
    lines = [line for line in read_json_lines(run / "epochs.jsonl") if line["phase"] == "search"]
    assert len({(line["trial"], line["epoch"]) for line in lines}) == len(lines)
    assert {line["trial"] for line in lines} == set(range(num_trials))
    shown = subprocess.run(
        [sys.executable, "-m", "winnow", "show", str(run), "--json"], capture_output=True, text=True, check=True
    )
    statuses = [json.loads(line)["status"] for line in shown.stdout.splitlines()]
    assert len(statuses) == num_trials
    assert set(statuses) <= {"completed", "stopped"}
    assert {line["status"] for line in read_json_lines(run / "retrain.jsonl")} == {"completed"}


def _busiest(notes: list[dict]) -> str:
    """The node with the two GPUs."""
    gpus = defaultdict(set)
    for note in notes:
        gpus[note["node"]].update(note["gpus"])
    return max(gpus, key=lambda node: len(gpus[node]))


def _with_shelf(desk: Desk, python: Path) -> dict[str, str]:
    """The environment of a desk that knows what the nodes' packages have beyond those of this process."""
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    own = desk.folder / "site"
    own.mkdir(exist_ok=True)
    for found in site.glob("shelf*"):
        if not (own / found.name).exists():
            (own / found.name).symlink_to(found)
    return {"PYTHONPATH": str(own), "SHELF": desk.nodes.environment["SHELF"]}


def _wait(condition, process: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()}")
        if time.monotonic() > deadline:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"not within {seconds:.0f} s: {process.communicate()}")
        time.sleep(0.3)
