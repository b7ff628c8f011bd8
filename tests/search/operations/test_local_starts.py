"""Searches that start in surroundings that others reported: each really runs, or says in one line why it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ray._common.utils import get_system_memory
from ray._private.utils import get_used_memory

from tests.conftest import REPOSITORY
from tests.helpers.memory_group import INSIDE, memory_group
from winnow.reports.reading.journal import read_trials
from winnow.search.ray_backend.local_start import LONGEST_TEMPORARY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SEARCH = [sys.executable, "-m", "winnow", "search"]
DIGITS = ("digits", "--set", "epochs=1", "--trials", "1", "--num-cpus", "1", "--name", "r")
BUSY = {"RAY_worker_niceness": "0", "RAY_raylet_start_wait_time_s": "120"}
"""Lets Ray start beside other work."""
searches: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A search that a failed test leaves behind is killed; its watchdog kills its Ray."""
    yield
    for search in searches:
        search.kill()
        search.wait()
    searches.clear()


def begin(
    folder: Path, command: Sequence[str], *, stdout: int = subprocess.PIPE, **environment: str | None
) -> subprocess.Popen[str]:
    """Start a command in a folder. A variable that is None is not set."""
    variables = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{folder}", **BUSY, **environment}
    search = subprocess.Popen(
        command,
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
    )
    searches.append(search)
    return search


def finish(search: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and the output of a command."""
    output, _ = search.communicate(timeout=800)
    return search.returncode, output


def statuses(folder: Path) -> list[str]:
    trials = read_trials(folder / "runs" / "r" / "study.journal")[0]
    return [trial.user_attrs["status"] for trial in trials]


@pytest.mark.parametrize("home", ["missing", "not writable"])
def test_a_search_needs_no_home(tmp_path, home):
    """As in a container that runs as an arbitrary user."""
    as_nobody = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]  # a user without a name or privileges
    try:
        subprocess.run([*as_nobody, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine has no user namespaces")
    closed = tmp_path / "home"
    closed.mkdir(mode=0o500)
    variables = {"HOME": None if home == "missing" else str(closed), "XDG_STATE_HOME": None}
    code, output = finish(begin(tmp_path, [*as_nobody, *SEARCH, *DIGITS], **variables))
    assert code == 0, output
    assert "Traceback" not in output
    assert statuses(tmp_path) == ["completed"]
    assert list(closed.iterdir()) == []


def test_a_search_with_a_long_temporary_folder(tmp_path):
    long = tmp_path / "a-scratch-folder-as-slurm-makes-one" / ("t" * LONGEST_TEMPORARY)
    long.mkdir(parents=True)
    code, output = finish(begin(tmp_path, [*SEARCH, *DIGITS], TMPDIR=str(long), RAY_TMPDIR=None))
    assert code == 0, output
    assert statuses(tmp_path) == ["completed"]
    assert not list(long.glob("*ray*"))


@pytest.mark.parametrize(
    ("named", "problem"), [("/proc/1", "cannot be written ("), ("/tmp/" + "t" * LONGEST_TEMPORARY, "is longer than")]
)
def test_a_folder_that_ray_cannot_use_is_refused_before_anything_starts(tmp_path, named, problem):
    search = begin(tmp_path, [*SEARCH, *DIGITS], RAY_TMPDIR=named)
    code, output = finish(search)
    assert code == 2, output
    assert output.splitlines()[-1].startswith(f"winnow: RAY_TMPDIR={named}: {problem}")
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


IN_A_THREAD = """
import threading
import winnow.search as search
from winnow.search.resources.plan import DeviceOptions

found = []
def work():
    found.append(search.search("digits", ["epochs=1"], name="r", devices=DeviceOptions(num_cpus=1), trials=1))
thread = threading.Thread(target=work)
thread.start()
thread.join()
print("trials:", len(found[0].trials))
"""


def test_a_search_in_a_thread_that_is_not_the_main_one(tmp_path):
    """As in Streamlit, FastAPI or a graphical program."""
    code, output = finish(begin(tmp_path, [sys.executable, "-c", IN_A_THREAD]))
    assert (code, output.splitlines()[-1]) == (0, "trials: 1"), output
    assert "Traceback" not in output
    assert statuses(tmp_path) == ["completed"]


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has GPUs")
def test_slurms_variables_on_a_node_without_gpus(tmp_path):
    """`salloc` opens its shell on the login node, with the variables of the job."""
    code, output = finish(begin(tmp_path, [*SEARCH, *DIGITS], SLURM_JOB_GPUS="0,1", SLURM_GPUS="2"))
    assert code == 0, output
    assert "Slurm gave GPUs to this job (SLURM_JOB_GPUS=0,1)" in " ".join(output.split())
    assert statuses(tmp_path) == ["completed"]


GREEDY = """
import time
from torch import nn

class Net(nn.Sequential):
    calls = 0

    def forward(self, images):
        self.calls += self.training
        if self.calls == 4:  # the check before the search makes fewer
            kept = []
            for _ in range(60):  # 6 GB at most
                kept.append(b"1" * 100_000_000)
                time.sleep(0.05)
            time.sleep(60)
        return super().forward(images)

def build(image_shape, num_classes):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""
SPACE = """
data: {name: digits, validation: 0.2}
epochs: 1
batch_size: 256
model: {name: "odd_nets:build"}
optimizer: {name: adam, lr: 0.01}
search: {trials: 1}
"""
ODD = ("space.yaml", "--num-cpus", "1", "--name", "r")


def write_space(folder: Path, nets: str) -> None:
    (folder / "odd_nets.py").write_text(nets)
    (folder / "space.yaml").write_text(SPACE)


def test_a_trial_that_rays_memory_monitor_kills(tmp_path):
    for_search = 3e9  # driver, Ray and workers that have imported torch
    total, used = get_system_memory(), get_used_memory()
    if total - used < for_search + 4e9:
        pytest.skip("this machine has too little free memory")
    write_space(tmp_path, GREEDY)
    limits = {
        "RAY_memory_usage_threshold": f"{(used + for_search) / total:.4f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    code, output = finish(begin(tmp_path, [*SEARCH, *ODD], **limits))
    told = " ".join(output.split())
    assert "Ray killed its worker because the memory of the node ran out" in told, output
    assert "Traceback" not in output
    assert code in (0, 1, 2), output
    assert statuses(tmp_path) == ["out_of_memory"]


def test_a_trial_that_the_kernel_kills_for_memory(tmp_path):
    """In a group with a limit, as in a container. Ray's own monitor is off."""
    limit = 3_500_000_000  # driver, Ray and workers that have imported torch, and then some of what the model takes
    if get_system_memory() - get_used_memory() < 1.3 * limit:
        pytest.skip("this machine has too little free memory")
    write_space(tmp_path, GREEDY)
    with memory_group(limit) as group:
        code, output = finish(begin(tmp_path, [*INSIDE, str(group), *SEARCH, *ODD], RAY_memory_monitor_refresh_ms="0"))
    told = " ".join(output.split())
    assert "the kernel killed its worker because the memory of the node ran out (it used" in told, output
    assert "the limit for all processes is 3.50 GB" in told, output
    assert "Traceback" not in output
    assert code in (0, 1, 2), output
    assert statuses(tmp_path) == ["out_of_memory"]


BESIDE_OTHERS = """
import pathlib, threading, time
import ray
import winnow.search as search

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)

@ray.remote(num_cpus=1)
class Other:
    def ready(self): ...

other = Other.remote()
ray.get(other.ready.remote())

def leave():
    while not pathlib.Path("leave").exists():
        time.sleep(0.1)
    ray.kill(other)

threading.Thread(target=leave, daemon=True).start()
search.search("digits", ["epochs=1"], name="r", trials=1)
"""


def test_a_search_waits_for_cpus_that_somebody_else_uses(tmp_path):
    search = begin(tmp_path, [sys.executable, "-c", BESIDE_OTHERS])
    assert search.stdout is not None
    lines = []
    for line in search.stdout:
        lines.append(line)
        if "waiting: " in line:
            (tmp_path / "leave").touch()
    assert search.wait(60) == 0, "".join(lines)
    assert "waiting: Ray has 1 CPUs, 0 are free, and a trial needs 1" in " ".join("".join(lines).split())
    assert statuses(tmp_path) == ["completed"]


LEAVES = """
import sys

def build(image_shape, num_classes):
    sys.exit(0)
"""


def test_a_model_that_leaves_while_it_is_built_is_named_before_anything_starts(tmp_path):
    write_space(tmp_path, LEAVES)
    code, output = finish(begin(tmp_path, [*SEARCH, *ODD]))
    assert code == 2, output
    assert output.splitlines()[-1].startswith("winnow: model odd_nets:build called sys.exit(0)")
    assert "Traceback" not in output
    assert not (tmp_path / "runs").exists()


FAILS = """
from torch import nn

class Net(nn.Sequential):
    calls = 0

    def forward(self, images):
        self.calls += self.training
        if self.calls == 4:  # the check before the probe makes fewer
            raise RuntimeError("no more")
        return super().forward(images)

def build(image_shape, num_classes):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.mark.parametrize(
    ("nets", "problem"),
    [
        (
            LEAVES.replace("sys.exit(0)", "sys.modules['os']._exit(7)"),
            "it ended its process with exit code 7 while it was built",
        ),
        (LEAVES.replace("sys.exit(0)", "__import__('ctypes').string_at(0)"), "its process was killed by SIGSEGV"),
        (FAILS, "its probe ended as failed: RuntimeError: no more"),
    ],
    ids=["exit", "segfault", "error"],
)
def test_a_model_that_ruins_a_plan_is_named(tmp_path, nets, problem):
    write_space(tmp_path, nets)
    code, output = finish(begin(tmp_path, [sys.executable, "-m", "winnow", "plan", "space.yaml", "--num-cpus", "1"]))
    assert code == 2, output
    assert output.splitlines()[-1].startswith(f"winnow: model odd_nets:build: {problem}")
    assert "Traceback" not in output


def test_a_closed_pipe_ends_no_search(tmp_path):
    """As of `winnow search SPACE | head -1`."""
    reader, writer = os.pipe()
    search = begin(tmp_path, [*SEARCH, *DIGITS], stdout=writer)
    os.close(writer)
    os.close(reader)
    assert search.wait(800) == 0
    assert statuses(tmp_path) == ["completed"]
    assert (tmp_path / "runs" / "r" / "report" / "report.html").exists()
