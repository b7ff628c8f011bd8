"""Groups of ranks that Ray Train started (gloo, on the CPU): a rank is killed or hangs, and a search replaces its group."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers.nodes import descendants
from tests.helpers.rank_training import epochs, groups, ray  # noqa: F401
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.operations.rerunning import rerun
from winnow.search.ray_backend.shared_data import SharedData, train_on
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.training.errors import RankLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def ranks_of(pid: int) -> set[int]:
    """The processes of ranks below this one."""
    pids = set()
    for child in descendants(pid):
        with suppress(OSError):
            if b"RayTrainWorker" in Path(f"/proc/{child}/cmdline").read_bytes():
                pids.add(child)
    return pids


def noted(image_shape: Any, num_classes: int, folder: str) -> torch.nn.Module:
    """A network that says in which process each rank builds it."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
    Path(folder, str(rank)).write_text(str(os.getpid()))
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(image_shape), num_classes))


def test_a_killed_rank_is_a_lost_training_and_the_next_one_has_a_new_group(ray, groups, tmp_path):  # noqa: F811
    data = SharedData(ray.put(tiny_data()), groups[2])
    model = {"name": "tests.search.ray_backend.test_rank_groups:noted", "folder": str(tmp_path)}
    for index in (1, 0):
        training = train_on(data, "killed", epochs, config=tiny_config(epochs=500, model=model), state=None)
        next(training)
        pids = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
        os.kill(pids[index], signal.SIGKILL)
        with pytest.raises(RankLost, match=f"rank {index} .*lost$"):
            list(training)
        _wait_until_gone(pids)
    last = list(train_on(data, "next", epochs, config=tiny_config(epochs=1), state=None))
    assert [report[0]["epoch"] for report in last] == [1]


class Spoiled(torch.nn.Module):
    """Its second step raises, in one rank, what CUDA raises when no kernel can run in the process any more."""

    def __init__(self, image_shape: Any, num_classes: int, rank: int) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(math.prod(image_shape), num_classes)
        self.rank, self.steps = rank, 0

    def forward(self, images: torch.Tensor) -> Any:
        self.steps += self.training
        if self.steps == 2 and torch.distributed.is_initialized() and torch.distributed.get_rank() == self.rank:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nadvice")
        return self.layer(images.flatten(1))


@pytest.mark.parametrize("rank", [1, 0])
def test_an_error_that_sticks_in_one_rank_ends_its_group(ray, groups, rank):  # noqa: F811
    data = SharedData(ray.put(tiny_data()), groups[2])
    model = {"name": "tests.search.ray_backend.test_rank_groups:Spoiled", "rank": rank}
    training = train_on(data, "spoiled", epochs, config=tiny_config(epochs=3, model=model), state=None)
    with pytest.raises(RankLost, match=rf"^rank {rank} of 2 lost"):
        list(training)
    last = list(train_on(data, "next", epochs, config=tiny_config(epochs=1), state=None))
    assert [report[0]["epoch"] for report in last] == [1]


def test_a_training_that_acquires_a_group_again_does_not_wait_for_its_dead_predecessor(ray, groups):  # noqa: F811
    data = SharedData(ray.put(tiny_data()), groups[2])
    dead = train_on(data, "trial 5", epochs, config=tiny_config(epochs=500), state=None)
    pid = next(dead)[3]
    again = list(train_on(data, "trial 5", epochs, config=tiny_config(epochs=1), state=None))
    assert again[0][3] != pid
    _wait_until_gone({pid})


SPACE = """
data: digits
epochs: 8
batch_size: 64
model: {name: cnn, stages: [{filters: 8}], norm: batch, dropout: 0.2}
optimizer: {name: adam, lr: {log: [0.001, 0.01]}}
search: {trials: 2, grace_epochs: 8}
retrain: {top: 1, seeds: 2}
"""
WITH_RANKS = ("--device", "cpu", "--num-gpus", "2", "--gpus-per-trial", "2")  # declared GPUs


def test_a_search_whose_trials_have_two_ranks_each_and_one_of_them_is_killed(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    folder, process = _start("run", tmp_path)
    victims = ranks_of(process.pid)
    assert len(victims) == 2
    os.kill(max(victims), signal.SIGKILL)
    output, errors = process.communicate(timeout=500)
    text = " ".join(output.split())
    assert process.returncode == 0, output + errors
    assert "1 trial at once, each on 2 of 2 GPUs" in text
    assert "its worker was lost" in text
    assert errors == ""
    lines = list(read_json_lines(folder.epochs))
    # Nothing is lost, nothing twice.
    assert sorted((line["trial"], line["epoch"]) for line in lines if line["phase"] == "search") == [
        (trial, epoch) for trial in range(2) for epoch in range(1, 9)
    ]
    assert {line["gpus"] for line in lines} == {2.0}
    assert [line["status"] for line in read_json_lines(folder.retrained)] == ["completed"] * 2
    assert not ranks_of(process.pid)
    assert not any("train" in path.name.lower() for path in folder.path.iterdir() if path.name != "retrain.jsonl")
    # Two ranks again, undisturbed this time: bit for bit.
    assert all(rerun(folder, trial, None, None, None).equal for trial in range(2))


@pytest.mark.parametrize("which", [min, max])
def test_a_rank_that_hangs_ends_its_trial_and_no_other(tmp_path, which):
    space = SPACE.replace("epochs: 8\n", "epochs: 30\n").replace(
        "grace_epochs: 8", "grace_epochs: 30, trial_timeout: 30"
    )
    (tmp_path / "space.yaml").write_text(space)
    _, process = _start("search", tmp_path)
    ranks = ranks_of(process.pid)
    os.kill(which(ranks), signal.SIGSTOP)
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, output + errors
    assert "1 completed, 1 timed out" in " ".join(output.split())
    assert "no sign of life for 30 s" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in ranks)


def _start(command: str, folder: Path) -> tuple[RunFolder, subprocess.Popen[str]]:
    """Start the search of `space.yaml` with two ranks per trial, and wait for two epochs."""
    run = RunFolder(folder / "runs" / "two")
    process = subprocess.Popen(
        [sys.executable, "-m", "winnow", command, "space.yaml", "--name", "two", *WITH_RANKS],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and len(list(read_json_lines(run.epochs))) < 2:
        time.sleep(0.05)
    return run, process


def _wait_until_gone(pids: Iterable[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, pids
        time.sleep(0.1)
