"""One training on several ranks that Ray Train started (gloo, on the CPU).

The figures of one process up to rounding, exact resume, a rank that is killed.
"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers.nodes import descendants
from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow.search.operations.rerunning import rerun
from winnow.search.ray_backend.rank_groups import RankGroupClient, RankGroupSpec, rank_groups
from winnow.search.ray_backend.session import ray_session
from winnow.search.ray_backend.shared_data import SharedData, train_on
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.training.device_data import DeviceData
from winnow.search.training.errors import Failed, RankLost
from winnow.search.training.loop import train
from winnow.search.training.ranks import Task, Team
from winnow.spaces.schema import Config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
PLAIN: dict[str, Any] = {  # neither batch norm nor dropout: then the shared-out batch gives the same update
    "precision": "float32",  # in bfloat16 sums in another order differ in the third digit
    "model": {"name": "cnn", "stages": [{"filters": 4}], "head": [8]},
    "data": {"name": "npz", "path": "unused", "augment": ["flip", "crop"]},
}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """That of the other tests, if it runs; one whose processes have nothing to import beforehand starts groups sooner."""
    with ray_session(num_cpus=2, num_gpus=0, warm=False) as started:
        yield started


@pytest.fixture(scope="module")
def lent(ray) -> Iterator[dict[int, RankGroupClient]]:
    """A group of two and one of three ranks; restarted by the test that uses it where a test kills them."""
    with (
        rank_groups(RankGroupSpec(2, "cpu", 1, {"CPU": 0.1}), 1) as two,
        rank_groups(RankGroupSpec(3, "cpu", 1, {"CPU": 0.1}), 1) as three,
    ):
        yield {2: two, 3: three}


@pytest.fixture(scope="module")
def run(ray, lent):
    images = ray.put(tiny_data())

    def run(config: Config, ranks: int, state: Any = None, **more: Any) -> tuple[Any, ...]:
        """(figures, states after each epoch, final weights)"""
        data = SharedData(images, lent[ranks]) if ranks > 1 else tiny_data()
        told = list(train_on(data, "a test", epochs, config=config, state=state, **more))
        return [said[0] for said in told], [said[1] for said in told], told[-1][2]

    return run


def epochs(
    data: Any, team: Team | None, config: Config, state: Any, told: Any = None, micro_batches: int = 1
) -> Generator[Any, None, None]:
    """On rank 0, or alone. `told`: another task for the other ranks."""
    torch.set_num_threads(1)
    on_device = DeviceData.build(data, config.data, CPU, 0)
    if team is not None:
        team.begin(told or Task(config, 0, "search", 7, state, micro_batches))
    for result in train(config, on_device, CPU, 7, checkpoint=state, micro_batches=micro_batches, team=team):
        yield figures(result), result.state(), result.weights(), os.getpid()


def ranks_of(pid: int) -> set[int]:
    """The processes of ranks below this one."""
    found = set()
    for child in descendants(pid):
        with suppress(OSError):
            if b"RayTrainWorker" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.add(child)
    return found


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
def test_the_losses_are_those_of_one_process(run, ranks, changes):
    config = tiny_config(**{**PLAIN, **changes})
    alone, _, weights = run(config, 1)
    together, _, weights_together = run(config, ranks)
    assert_close(together, alone)
    assert all(torch.allclose(weights[name], weights_together[name], atol=1e-3) for name in weights)


def test_in_pieces_too(run):
    config = tiny_config(**PLAIN)
    in_pieces, whole = run(config, 2, micro_batches=3)[0], run(config, 1)[0]
    assert len(in_pieces[0]["batch_losses"]) > len(whole[0]["batch_losses"])  # of each piece
    assert_close(in_pieces, whole)


def test_a_resumed_training_is_the_undisturbed_one_with_batch_norm_and_dropout(run):
    """It would not be if the ranks' networks had drifted apart: the checkpoint is that of rank 0."""
    config = tiny_config(epochs=4)
    whole, states, weights = run(config, 2)
    resumed, _, resumed_weights = run(config, 2, states[1])
    assert resumed == whole[2:]
    assert same_tensors(resumed_weights, weights)
    assert run(config, 2)[0] == whole  # and the same seed gives the same figures


def test_a_checkpoint_goes_on_with_another_number_of_ranks(run):
    config = tiny_config(**PLAIN)
    alone, states, _ = run(config, 1)
    assert_close(run(config, 2, states[1])[0], alone[2:])
    _, states, _ = run(config, 2)
    assert_close(run(config, 1, states[1])[0], alone[2:])


def test_a_diverged_training_ends_on_all_ranks(run):
    config = tiny_config(optimizer={"name": "sgd", "lr": 1e30}, epochs=3)
    seen, _, _ = run(config, 2)
    assert seen[-1]["diverged"]
    assert run(tiny_config(**PLAIN, epochs=1), 2)[0][0]["epoch"] == 1  # the ranks train on


def test_a_training_that_is_dropped_leaves_the_group_to_the_next(ray, lent):
    """As when a trial is stopped: what the dropped one would have said next is nobody's."""
    data = SharedData(ray.put(tiny_data()), lent[2])
    with closing(train_on(data, "stopped", epochs, config=tiny_config(epochs=50), state=None)) as stopped:
        first, _, _, pid = next(stopped)
    second = list(train_on(data, "next", epochs, config=tiny_config(epochs=2), state=None))
    assert [said[0]["epoch"] for said in second] == [1, 2]
    assert {said[3] for said in second} == {pid}
    assert first["lr"] == second[0][0]["lr"]


def test_an_error_of_a_rank_is_told_in_its_words(run):
    config = tiny_config(**PLAIN)
    _, states, _ = run(config, 1)
    other_seed = Task(config, 0, "search", 7, {**states[0], "seed": 8}, 1)
    with pytest.raises(Failed) as told:
        run(config, 2, states[0], told=other_seed)
    assert told.value.status == "failed"
    assert told.value.text.startswith("rank 1: Traceback")
    assert told.value.text.endswith("ValueError: the checkpoint is of seed 8, not of 7\n")


def test_a_rank_that_runs_out_of_memory_is_no_rank_that_is_lost(run):
    """While rank 0 waits for it. A layer of terabytes: torch's allocator really fails."""
    huge = Task(tiny_config(**{**PLAIN, "model": {"name": "mlp", "hidden": [10**10]}}), 0, "search", 7, None, 1)
    with pytest.raises(Failed) as told:
        run(tiny_config(**PLAIN), 2, told=huge)
    assert told.value.status == "out_of_memory"


def noted(image_shape: Any, num_classes: int, folder: str) -> torch.nn.Module:
    """A network that says in which process each rank builds it."""
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else "alone"
    Path(folder, str(rank)).write_text(str(os.getpid()))
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(image_shape), num_classes))


def test_a_killed_rank_is_a_lost_training_and_the_next_one_has_a_new_group(ray, lent, tmp_path):
    data = SharedData(ray.put(tiny_data()), lent[2])
    model = {"name": "tests.search.training.test_ranks:noted", "folder": str(tmp_path)}
    for index in (1, 0):
        training = train_on(data, "killed", epochs, config=tiny_config(epochs=500, model=model), state=None)
        next(training)
        pids = [int((tmp_path / str(rank)).read_text()) for rank in range(2)]
        os.kill(pids[index], signal.SIGKILL)
        with pytest.raises(RankLost, match=f"rank {index} .*lost$"):
            list(training)
        _wait_until_gone(pids)
    last = list(train_on(data, "next", epochs, config=tiny_config(epochs=1), state=None))
    assert [said[0]["epoch"] for said in last] == [1]


def test_who_borrows_again_is_not_kept_waiting_by_its_dead_predecessor(ray, lent):
    data = SharedData(ray.put(tiny_data()), lent[2])
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
    said = " ".join(output.split())
    assert process.returncode == 0, output + errors
    assert "1 trial at once, each on 2 of 2 GPUs" in said
    assert "its worker was lost" in said
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
