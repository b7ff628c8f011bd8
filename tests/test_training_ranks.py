"""One training on several ranks (gloo, on the CPU): the figures of one process up to rounding, exact resume, a rank that is killed."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from search.folder import read_json_lines
from search.rerunning import rerun
from search.training.loop import train
from search.training.pipeline import DeviceData
from search.training.ranks import RankLost, Task, Team, team_of
from spaces.schema import Config
from tests.conftest import REPOSITORY
from tests.tiny import CPU, figures, same_tensors, tiny_config, tiny_data

pytestmark = pytest.mark.slow
PLAIN: dict[str, Any] = {  # neither batch norm nor dropout: then the shared-out batch gives the same update
    "model": {"name": "cnn", "stages": [{"filters": 4}], "head": [8]},
    "data": {"name": "npz", "path": "unused", "augment": ["flip", "crop"]},
}


def run(config: Config, ranks: int, state: dict[str, Any] | None = None, micro_batches: int = 1) -> tuple[Any, ...]:
    """(figures, states after each epoch, final weights)"""
    data, state = tiny_data(), copy.deepcopy(state)
    team = team_of(ranks, CPU, 1)
    if team is not None:
        team.begin(data, Task(config, 0, "search", 7, state, micro_batches))
    seen, states = [], []
    on_device = DeviceData.build(data, config.data, CPU, 0)
    for result in train(config, on_device, CPU, 7, checkpoint=state, micro_batches=micro_batches, team=team):
        seen.append(figures(result))
        states.append(result.state())
    return seen, states, result.weights()


def assert_close(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> None:
    for one, other in zip(some, others, strict=True):
        # Float32 sums in another order: 1e-7 in a step, more after the dozen steps of these trainings.
        if len(one["batch_losses"]) == len(other["batch_losses"]):
            assert one["batch_losses"] == pytest.approx(other["batch_losses"], abs=1e-4)
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-4)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-4)


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (2, {}),
        (3, {"batch_size": 13}),  # parts of unequal size, and a last batch of a single image, which is not shared out
        (
            2,
            {
                "gradient_clip": 0.5,
                "schedule": {"name": "plateau", "patience": 0},
                "optimizer": {"name": "sgd", "lr": 0.5},
            },
        ),
    ],
)
def test_the_losses_are_those_of_one_process(ranks, changes):
    config = tiny_config(**{**PLAIN, **changes})
    alone, _, weights = run(config, 1)
    together, _, weights_together = run(config, ranks)
    assert_close(together, alone)
    assert all(torch.allclose(weights[name], weights_together[name], atol=1e-3) for name in weights)


def test_in_pieces_too():
    config = tiny_config(**PLAIN)
    in_pieces, whole = run(config, 2, micro_batches=3)[0], run(config, 1)[0]
    assert len(in_pieces[0]["batch_losses"]) > len(whole[0]["batch_losses"])  # of each piece
    assert_close(in_pieces, whole)


def test_a_resumed_training_is_the_undisturbed_one_with_batch_norm_and_dropout():
    """It would not be if the ranks' networks had drifted apart: the checkpoint is that of rank 0."""
    config = tiny_config(epochs=4)
    whole, states, weights = run(config, 2)
    resumed, _, resumed_weights = run(config, 2, states[1])
    assert resumed == whole[2:]
    assert same_tensors(resumed_weights, weights)
    assert run(config, 2)[0] == whole  # and the same seed gives the same figures


def test_a_checkpoint_goes_on_with_another_number_of_ranks():
    config = tiny_config(**PLAIN)
    alone, states, _ = run(config, 1)
    assert_close(run(config, 2, states[1])[0], alone[2:])
    _, states, _ = run(config, 2)
    assert_close(run(config, 1, states[1])[0], alone[2:])


def test_a_diverged_training_ends_on_all_ranks():
    config = tiny_config(optimizer={"name": "sgd", "lr": 1e30}, epochs=3)
    seen, _, _ = run(config, 2)
    assert seen[-1]["diverged"]
    assert run(tiny_config(**PLAIN, epochs=1), 2)[0][0]["epoch"] == 1  # the ranks train on


def test_a_killed_rank_is_a_lost_training_and_the_next_one_has_a_new_team():
    config = tiny_config(epochs=50)
    team = team_of(2, CPU, 1)
    assert isinstance(team, Team)
    data = tiny_data()
    team.begin(data, Task(config, 0, "search", 7, None, 1))
    training = train(config, DeviceData.build(data, config.data, CPU, 0), CPU, 7, team=team)
    next(training)
    (pid,) = (process.pid for process in team._processes)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RankLost, match=r"rank 1 of 2 was killed \(signal 9\)"):
        list(training)
    assert not Path(f"/proc/{pid}").exists()
    assert len(run(tiny_config(epochs=1), 2)[0]) == 1


def test_an_error_of_a_rank_is_told_in_its_words():
    config, data = tiny_config(**PLAIN), tiny_data()
    team = team_of(2, CPU, 1)
    assert isinstance(team, Team)
    _, states, _ = run(config, 1)
    team.begin(data, Task(config, 0, "search", 7, {**states[0], "seed": 8}, 1))
    training = train(config, DeviceData.build(data, config.data, CPU, 0), CPU, 7, checkpoint=states[0], team=team)
    with pytest.raises(RuntimeError, match="rank 1: ValueError: the checkpoint is of seed 8, not of 7"):
        next(training)


SPACE = """
data: digits
epochs: 3
batch_size: 64
model: {name: cnn, stages: [{filters: 8}], norm: batch}
optimizer: {name: adam, lr: {log: [0.001, 0.01]}}
search: {trials: 2, grace_epochs: 3}
retrain: {top: 1, seeds: 1}
"""
WITH_RANKS = ("--device", "cpu", "--num-gpus", "2", "--gpus-per-trial", "2")  # declared GPUs


@pytest.mark.timeout(600)
def test_a_search_whose_trials_have_two_ranks_each(tmp_path):
    (tmp_path / "space.yaml").write_text(SPACE)
    done = subprocess.run(
        [sys.executable, "-m", "search", "run", "space.yaml", "--name", "two", *WITH_RANKS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "1 trial at once, each on 2 of 2 GPUs" in " ".join(done.stdout.split())
    lines = list(read_json_lines(tmp_path / "runs" / "two" / "epochs.jsonl"))
    assert sorted((line["trial"], line["epoch"]) for line in lines if line["phase"] == "search") == [
        (trial, epoch) for trial in range(2) for epoch in range(1, 4)
    ]
    assert {line["gpus"] for line in lines} == {2.0}
    (retrained,) = read_json_lines(tmp_path / "runs" / "two" / "retrain.jsonl")
    assert retrained["status"] == "completed"
    from search.folder import RunFolder

    assert rerun(RunFolder(tmp_path / "runs" / "two"), 1, None, None, None).equal  # two ranks again, bit for bit
