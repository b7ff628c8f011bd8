"""Trials that hang for real: a model that never returns, a worker that is stopped, and Ctrl-C beside them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from benchmarks.reliability.processes import workers
from tests.conftest import REPOSITORY
from winnow.reports.reading.journal import read_trials
from winnow.search.resources.child_processes import child_processes
from winnow.search.storage.json_lines import read_json_lines

searches: list[subprocess.Popen[str]] = []

NETS = """
import os, time
from torch import nn


class Net(nn.Module):
    def __init__(self, hangs, seconds):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.hangs, self.seconds, self.calls = hangs, seconds, 0

    def forward(self, images):
        if self.training and images.device.type != "meta":
            self.calls += 1
            time.sleep(self.seconds)
            print("batch", self.calls)
            while self.calls == 7 and (self.hangs or os.path.exists(os.path.join(os.path.dirname(__file__), "hang"))):
                time.sleep(0.2)
        return self.body(images)


def build(image_shape, num_classes, hangs=False, seconds=0.0):
    return Net(hangs, seconds)
"""
SPACE = """
data: {{name: digits, validation: 0.2}}
epochs: 3
batch_size: 256
model: {{name: "hanging_nets:build", hangs: {hangs}, seconds: {seconds}}}
optimizer: {{name: adam, lr: {{choice: [0.01, 0.02, 0.03, 0.04]}}}}
search: {{trials: {trials}, grace_epochs: 3, sampler: grid, trial_timeout: {timeout}}}
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """A search that a failed test leaves behind is killed."""
    yield
    for search in searches:
        search.kill()
    searches.clear()


SEARCH = ("search", "space.yaml", "--name", "r")


def start(
    folder: Path, hangs: str, seconds: float, trials: int, timeout: float, command: Sequence[str] = SEARCH
) -> subprocess.Popen[str]:
    (folder / "hanging_nets.py").write_text(NETS)
    (folder / "space.yaml").write_text(SPACE.format(hangs=hangs, seconds=seconds, trials=trials, timeout=timeout))
    search = subprocess.Popen(
        [sys.executable, "-m", "winnow", *command, "--cpus-per-trial", "1"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{folder}", "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    searches.append(search)
    return search


def wait_for_epochs(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 200
    while len(list(read_json_lines(folder / "runs" / "r" / "epochs.jsonl"))) < number:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def statuses(folder: Path) -> dict[int, str]:
    trials = read_trials(folder / "runs" / "r" / "study.journal")[0]
    return {trial.number: trial.user_attrs.get("status") for trial in trials}


@pytest.mark.slow
def test_a_model_that_never_returns_times_out_and_its_worker_is_replaced(tmp_path):
    search = start(tmp_path, hangs="{choice: [true, false]}", seconds=0.05, trials=4, timeout=5)
    output, _ = search.communicate(timeout=250)
    assert search.returncode == 0, output
    ended = statuses(tmp_path)
    assert set(ended.values()) == {"completed", "timed_out"}
    assert "no sign of life for" in output
    assert "timed_out" in output
    lines = list(read_json_lines(tmp_path / "runs" / "r" / "epochs.jsonl"))
    assert {line["trial"] for line in lines if line["last"]} == {n for n, s in ended.items() if s == "completed"}
    checkpoints = tmp_path / "runs" / "r" / "checkpoints"
    assert not list(checkpoints.glob(".*"))
    hung = next(number for number, status in ended.items() if status == "timed_out")
    assert (checkpoints / f"trial-{hung:05d}.log").read_text().endswith("batch 6\nbatch 7\n")
    shown = subprocess.run(
        [sys.executable, "-m", "winnow", "show", "runs/r", "--trial", str(hung)],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert f"runs/r/checkpoints/trial-{hung:05d}.log" in shown.stdout


@pytest.mark.slow
def test_a_probe_that_hangs_ends_the_plan(tmp_path):
    plan = start(tmp_path, hangs="true", seconds=0.05, trials=4, timeout=5, command=("plan", "space.yaml"))
    output, _ = plan.communicate(timeout=250)
    assert plan.returncode == 2, output
    assert output.splitlines()[-1].startswith(
        "winnow: model hanging_nets:build: its probe ended as timed_out: no sign of life for"
    )


@pytest.mark.slow
def test_a_stopped_worker_times_out(tmp_path):
    search = start(tmp_path, hangs="false", seconds=0.3, trials=3, timeout=5)
    wait_for_epochs(tmp_path, 1)
    stopped = workers(search.pid)[0]
    os.kill(stopped, signal.SIGSTOP)
    output, _ = search.communicate(timeout=250)
    assert search.returncode == 0, output
    assert sorted(statuses(tmp_path).values()) == ["completed", "completed", "timed_out"]
    assert not psutil.pid_exists(stopped)


IMPATIENT = """
import sys
from winnow.search.cli.main import main
from winnow.search.ray_backend import hangs

hangs.STARTING = 40.0
main(sys.argv[1:])
"""
LOOP = """
import os, signal, sys
from torch import optim
from torch.nn import functional


def train(config, data, device, checkpoint):
    model = config.network()
    optimizer = optim.SGD(model.parameters(), lr=0.01)
    try:
        for _ in checkpoint.epochs(model=model, optimizer=optimizer):
            for images, labels in data.loader():
                optimizer.zero_grad()
                functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
            yield {"lr": 0.01}
    finally:
        stop()


def stop():
    if not any("default_worker" in argument for argument in sys.orig_argv):  # the process that tries the loop first
        return
    try:
        os.close(os.open("stopped", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.mark.slow
def test_a_worker_that_stops_between_two_trials_is_replaced(tmp_path):
    """The next trial waits for it, and has given no sign of life yet."""
    (tmp_path / "impatient.py").write_text(IMPATIENT)
    (tmp_path / "loops.py").write_text(LOOP)
    (tmp_path / "space.yaml").write_text(
        "data: {name: digits, validation: 0.2}\nepochs: 1\nbatch_size: 256\nmodel: {name: mlp, hidden: [{choice: [4, 5, 6]}]}\n"
        "train: {name: 'loops:train'}\nsearch: {trials: 3, grace_epochs: 1, sampler: grid, trial_timeout: 5}\n"
    )
    search = subprocess.Popen(
        [sys.executable, "impatient.py", *SEARCH, "--num-cpus", "1", "--cpus-per-trial", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    searches.append(search)
    output, _ = search.communicate(timeout=250)
    assert search.returncode == 0, output
    assert "its worker was not ready for 40 s and was killed" in output
    assert sorted(statuses(tmp_path).values()) == ["completed"] * 3


@pytest.mark.slow
def test_one_ctrl_c_ends_a_search_that_hangs(tmp_path):
    search = start(tmp_path, hangs="true", seconds=0.05, trials=2, timeout=600)
    wait_for_epochs(tmp_path, 1)
    time.sleep(3)
    interrupted = time.monotonic()
    search.send_signal(signal.SIGINT)
    output, _ = search.communicate(timeout=120)
    assert time.monotonic() - interrupted < 40  # 10 s without a sign, and what a busy machine adds
    assert search.returncode == 130, output
    assert "winnow resume runs/r" in output
    assert set(statuses(tmp_path).values()) == {None}


@pytest.mark.slow
def test_one_ctrl_c_ends_a_retraining_that_hangs(tmp_path):
    search = start(tmp_path, hangs="false", seconds=0.0, trials=1, timeout=600)
    output, _ = search.communicate(timeout=250)
    assert search.returncode == 0, output
    (tmp_path / "hang").touch()
    options = ("--top", "1", "--seeds", "1")
    retraining = start(tmp_path, "false", 0.0, 1, 600, command=("retrain", "runs/r", *options))
    deadline = time.monotonic() + 200
    while not (printed := list((tmp_path / "runs" / "r" / "checkpoints").glob("retraining-*.log"))) or (
        "batch 7\n" not in printed[0].read_text()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    children = psutil.Process(retraining.pid).children(recursive=True)
    interrupted = time.monotonic()
    retraining.send_signal(signal.SIGINT)
    output, _ = retraining.communicate(timeout=120)
    assert time.monotonic() - interrupted < 40
    assert retraining.returncode == 130, output
    assert "Continue with: winnow retrain runs/r --top 1 --seeds 1" in output
    assert "Traceback" not in output
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


@pytest.mark.slow
def test_a_slow_trial_is_not_killed(tmp_path):
    """An epoch takes much longer than the timeout; its batches do not."""
    search = start(tmp_path, hangs="false", seconds=2.0, trials=1, timeout=6)
    output, _ = search.communicate(timeout=250)
    assert search.returncode == 0, output
    assert set(statuses(tmp_path).values()) == {"completed"}


@pytest.mark.slow
@pytest.mark.parametrize("server", ["raylet", "gcs_server"])
def test_a_ray_that_dies_ends_the_search_with_what_to_type(tmp_path, server):
    search = start(tmp_path, hangs="false", seconds=1.0, trials=4, timeout=600)
    wait_for_epochs(tmp_path, 1)
    child_processes([server], search.pid)[0].kill()
    output, _ = search.communicate(timeout=60)
    assert search.returncode == 1, output
    assert output.splitlines()[-1] == (
        "winnow: a server of Ray ended, perhaps killed for lack of memory. Nothing is lost. Continue with: winnow resume runs/r"
    )


@pytest.mark.slow
def test_a_run_that_is_deleted_meanwhile_is_not_called_kept(tmp_path):
    search = start(tmp_path, hangs="false", seconds=0.5, trials=4, timeout=600)
    wait_for_epochs(tmp_path, 1)
    shutil.rmtree(tmp_path / "runs" / "r")
    output, _ = search.communicate(timeout=120)
    assert search.returncode == 2, output
    assert "was deleted or moved while winnow worked on it" in output
    assert "kept" not in output
    assert "nothing is lost" not in output
