"""Models that misbehave in a real search: they harm nobody but themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from optuna.trial import FrozenTrial

from tests.conftest import REPOSITORY
from winnow.reports.reading.journal import read_trials
from winnow.search.storage.json_lines import read_json_lines
from winnow.spaces.epoch_figures import EPOCH_FIGURES
from winnow.spaces.trial_status import TrialStatus

NETS = """
import contextlib, ctypes, os, signal, sys, threading, time
import torch
from torch import nn


def chdir(): os.chdir("/")
def noise(): os.write(1, bytes(range(256)) * 400); sys.stdout.write("\\x1b[2J\\x00")
def signals():
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
def threads(): [threading.Thread(target=time.sleep, args=(600,)).start() for _ in range(50)]
def fork():
    if child := os.fork():
        with open(os.path.join(os.path.dirname(__file__), "child"), "w") as file:
            file.write(str(child))
    else:
        time.sleep(600)
        os._exit(0)
def seed(): torch.manual_seed(1)
def dtype(): torch.set_default_dtype(torch.float64)
def no_grad(): torch.set_grad_enabled(False)
def environment(): os.environ.clear()
def close(): [os.close(number) for number in range(3, 256) if os.path.exists(f"/proc/self/fd/{number}")]
def leave(): sys.exit(3)
def fail(): raise RuntimeError("[/red] \\x1b[31m</script>")
def crash(): ctypes.string_at(0)
def exit(): os._exit(3)
def spin():
    while True: pass


class Net(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.how, self.calls = how, 0

    def forward(self, images):
        answers = self.body(images)
        if self.training and images.device.type != "meta":
            self.calls += 1
            if self.calls == 7 and self.how in globals():
                globals()[self.how]()
        return answers


def build(image_shape, num_classes, how):
    return Net(how)
"""
INNOCENT = ("well", "fine", "good", "kind")
FAIL = ("leave", "fail", "no_grad")
OTHERS = ("chdir", "noise", "signals", "threads", "fork", "seed", "dtype", "environment", "crash", "exit")
SPACE = f"""
data: {{name: digits, validation: 0.2}}
epochs: 3
batch_size: 256
model: {{name: "bad_nets:build", how: {{choice: [{", ".join((*INNOCENT, "close", "spin", *FAIL, *OTHERS))}]}}}}
optimizer: {{name: adam, lr: 0.01}}
search: {{trials: 19, grace_epochs: 3, sampler: grid, trial_timeout: 60}}
"""

ALONE = """
import json, sys
from pathlib import Path
import torch
from winnow.search.data.source import load
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.schema import Config

torch.set_num_threads(1)
config, cpu = Config.model_validate(json.loads(sys.argv[1])), torch.device("cpu")
images = DeviceData.build(load(config.data, Path("data")), config.data, cpu, 0)
for result in train(config, images, cpu, int(sys.argv[2])):
    print(json.dumps(result.figures()))
"""


def figures(line: dict[str, Any]) -> dict[str, Any]:
    """What an epoch must show wherever it is trained."""
    return {figure.name: line.get(figure.name) for figure in EPOCH_FIGURES if figure.reproducible}


def alone(trial: FrozenTrial, folder: Path) -> list[dict[str, Any]]:
    """The epochs of a trial in a process that trains nothing else."""
    arguments = json.dumps(trial.user_attrs["config"]), str(trial.user_attrs["seed"])
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{folder}"}
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *arguments], cwd=folder, env=environment, check=True, capture_output=True
    )
    return [figures(json.loads(line)) for line in done.stdout.splitlines()]


def assert_ends(process: int) -> None:
    """The watchdog kills what is left of Ray shortly after the search."""
    deadline = time.monotonic() + 20
    while psutil.pid_exists(process):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_model_that_misbehaves_harms_no_other_trial(tmp_path: Path) -> None:
    (tmp_path / "bad_nets.py").write_text(NETS)
    (tmp_path / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "winnow", "search", "space.yaml", "--name", "r", "--cpus-per-trial", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "RAY_worker_niceness": "0"}
    search = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert search.returncode == 0, search.stderr[-3000:]
    trials = read_trials(tmp_path / "runs" / "r" / "study.journal")[0]
    ends = {trial.params["model.how"]: trial.user_attrs["status"] for trial in trials}
    assert len(ends) == 19
    # Without its connections a worker dies at once, or hangs until it is noticed.
    assert ends.pop("close") in (TrialStatus.COMPLETED, TrialStatus.LOST, TrialStatus.TIMED_OUT)
    assert ends.pop("spin") == TrialStatus.TIMED_OUT
    assert {how for how, status in ends.items() if status == TrialStatus.FAILED} == set(FAIL)
    assert {how for how, status in ends.items() if status == TrialStatus.COMPLETED} == {*INNOCENT, *OTHERS}
    lines = list(read_json_lines(tmp_path / "runs" / "r" / "epochs.jsonl"))
    for trial in trials:
        if trial.params["model.how"] in INNOCENT:
            assert [figures(line) for line in lines if line["trial"] == trial.number] == alone(trial, tmp_path)
    assert_ends(int((tmp_path / "child").read_text()))
