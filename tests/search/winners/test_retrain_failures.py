"""Retraining survives what a search survives: lack of memory, errors of CUDA that stay, processes that die."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.tiny import same_tensors, tiny_config, tiny_data
from winnow.search.ray_backend.shared_data import Job, SharedData
from winnow.search.resources.plan import ResourcePlan
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.training import process_state
from winnow.search.training.checkpoint import load, save
from winnow.search.training.errors import DeviceLost
from winnow.search.winners import retraining
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.retraining import retrain, retrain_one
from winnow.spaces import catalog

STEPS = 4  # of an epoch: 50 images in batches of 16


class Fragile(nn.Module):
    """A network that does what files in its folder say, at the step that they hold; `once-` files are deleted then."""

    def __init__(self, inputs: int, num_classes: int, folder: Path) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.Dropout(0.3), nn.Linear(8, num_classes))
        self.folder = folder
        self.step = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and images.device.type != "meta" and images.any():  # not where the network is only counted
            self.step += 1
            with (self.folder / "steps").open("a") as file:
                file.write(f"{os.getpid()}\n")
            for file in self.folder.glob("*-*"):
                if int(file.read_text()) == self.step:
                    if file.name.startswith("once"):
                        file.unlink()
                    FAULTS[file.name.split("-")[1]]()
        return self.network(images)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def sticks() -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`")


FAULTS = {"memory": out_of_memory, "assert": sticks, "death": lambda: os._exit(1)}


def fragile(image_shape: Any, num_classes: int, folder: str) -> nn.Module:
    return Fragile(math.prod(image_shape), num_classes, Path(folder))


def candidate(rank: int, folder: Path, **changes: Any) -> Candidate:
    folder.mkdir(exist_ok=True)
    model = {"name": "tests.search.winners.test_retrain_failures:fragile", "folder": str(folder)}
    return Candidate(rank, rank, tiny_config(model=model, **changes).model_dump(mode="json"), 0.5)


@pytest.fixture
def run(shared_ray, tmp_path):
    data = SharedData(shared_ray.put(tiny_data()))
    plan = ResourcePlan("cpu", concurrent=2, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    settings = settings_for(catalog.load("digits", ["retrain.seeds=1"]))

    def run(name: str, *candidates: Candidate) -> list[dict[str, Any]]:
        folder = RunFolder(tmp_path / name)
        folder.checkpoints.mkdir(parents=True)
        job = Job(str(folder.checkpoints), "cpu", 1, seed=0)
        retrain(
            shared_ray,
            folder,
            list(candidates),
            settings,
            data,
            job,
            plan,
            lambda *progress: None,
            lambda *record: None,
            print,
        )
        assert not list(folder.checkpoints.glob("retraining-*")), "nobody needs them any more"
        return list(read_json_lines(folder.retrained))

    return run


def test_checkpoints_of_recorded_trainings_go_at_the_next_start(tmp_path, monkeypatch):
    """A driver that is killed after it has written the line of a training has not deleted its checkpoint yet."""
    folder = RunFolder(tmp_path)
    folder.checkpoints.mkdir()
    lines = JsonLines(folder.retrained)
    for line in ({"trial": 3, "seed": 7, "rank": 1}, {"trial": 0, "seed": 7, "rank": None}):
        lines.append({**line, "baseline": line["rank"] is None, "status": "completed"})
    lines.close()
    for name in ("t3-s7", "t3-s8", "t0-s7", "baseline-s7"):
        (folder.checkpoints / f"retraining-{name}.pt").touch()
    monkeypatch.setattr(retraining, "run_tasks", lambda *_, **__: (task for task in ()))
    plan = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    job = Job(str(folder.checkpoints), "cpu", 1, seed=0)
    settings = settings_for(catalog.load("digits", ["retrain.seeds=1"]))
    retrain(None, folder, [], settings, SharedData(None), job, plan, lambda *_: None, lambda *_: None, print)
    left = {path.name for path in folder.checkpoints.iterdir()}
    assert left == {"retraining-t3-s8.pt", "retraining-t0-s7.pt"}


def test_a_checkpoint_is_all_that_the_next_try_needs(tmp_path, monkeypatch):
    """Without Ray: an error of CUDA that stays, then a lack of memory and a try in pieces, each after the first epoch."""
    monkeypatch.setattr(process_state, "_spoiled", [])
    data, config = tiny_data(), candidate(1, tmp_path / "faults")

    def train(name: str, which: Candidate = config) -> tuple[dict[str, Any], list[int]]:
        line, curve = retrain_one(data, which, 7, Job(str(tmp_path / name), "cpu", 1, seed=0), str(tmp_path / "p"))
        return line, [record["epoch"] for record in curve]

    whole, epochs = train("whole")
    assert (whole["status"], epochs) == ("completed", [1, 2, 3, 4])
    (tmp_path / "faults" / "once-assert").write_text(str(STEPS + 3))
    with pytest.raises(DeviceLost, match=r"^AcceleratorError: CUDA error: device-side assert triggered$"):
        train("again")
    process_state._spoiled.clear()  # another process
    (checkpoint,) = (tmp_path / "again").glob("retraining-*.pt")
    state = load(checkpoint)
    state["history"][0]["wall_seconds"] = 500.0
    save(checkpoint, state)
    again, epochs = train("again")
    assert (again["status"], epochs) == ("completed", [1, 2, 3, 4])
    assert again["wall_seconds"] > 500.0, "the epochs of the interrupted start count"
    weights, undisturbed = (load(tmp_path / name / Path(whole["weights"]).name) for name in ("again", "whole"))
    assert same_tensors(weights["weights"], undisturbed["weights"])
    (tmp_path / "faults" / "once-memory").write_text(str(STEPS + 3))
    assert train("pieces")[0]["status"] == "out_of_memory"
    line, epochs = train("pieces", replace(config, micro_batches=4))
    assert (line["status"], line["micro_batches"], epochs) == ("completed", 4, [1, 2, 3, 4])


@pytest.mark.parametrize(("gpus", "releases"), [(0.5, 1), (1.0, 0)])
def test_memory_is_released_after_each_training_on_a_shared_gpu(gpus, releases, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(retraining, "release_memory", lambda: released.append(1))
    config = tiny_config(epochs=1).model_dump(mode="json")
    line, _ = retrain_one(
        tiny_data(), Candidate(1, 3, config, 0.5), 7, Job(str(tmp_path), "cpu", 1, 0, gpus=gpus), str(tmp_path / "p")
    )
    assert line["status"] == "completed"
    assert len(released) == releases


def test_what_a_model_prints_is_kept(tmp_path, monkeypatch):
    (tmp_path / "noisy_nets.py").write_text(
        "from torch import nn\n"
        "def build(image_shape, num_classes):\n"
        "    print('a print')\n"
        "    return nn.Sequential(nn.Flatten(), nn.LazyLinear(num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    config = tiny_config(model={"name": "noisy_nets:build"}).model_dump(mode="json")
    job = Job(str(tmp_path), "cpu", 1, seed=0)
    line, _ = retrain_one(tiny_data(), Candidate(1, 3, config, 0.5), 7, job, str(tmp_path / "p"))
    assert "a print\n" in (tmp_path / "retraining-t3-s7.log").read_text(), line.get("error")


def test_the_checkpoint_of_another_config_is_not_continued(tmp_path):
    one, other = candidate(1, tmp_path / "a"), candidate(1, tmp_path / "a", batch_size=25)
    job = Job(str(tmp_path / "checkpoints"), "cpu", 1, seed=0)
    retrain_one(tiny_data(), one, 7, job, str(tmp_path / "p"))
    steps = tmp_path / "a" / "steps"
    steps.unlink()
    retrain_one(tiny_data(), other, 7, job, str(tmp_path / "p"))
    assert len(steps.read_text().split()) == 4 * 2


@pytest.mark.parametrize("fault", [pytest.param("assert", marks=pytest.mark.slow), "death"])
def test_a_training_whose_process_is_lost_goes_on_where_it_was(run, tmp_path, fault):
    (whole,) = run("whole", candidate(1, tmp_path / "a"))
    again = candidate(1, tmp_path / "b")
    (tmp_path / "b" / f"once-{fault}").write_text(str(STEPS + 3))
    (line,) = run("again", again)
    assert line["status"] == "completed", line
    epochs = list(read_json_lines(tmp_path / "again" / "epochs.jsonl"))
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
    pids = (tmp_path / "b" / "steps").read_text().split()
    assert len(pids) == 4 * STEPS + 3, "the epoch that was lost is trained again, and no other"
    assert len(set(pids)) == 2
    weights, undisturbed = (
        load(tmp_path / name / entry["weights"]) for name, entry in (("again", line), ("whole", whole))
    )
    assert same_tensors(weights["weights"], undisturbed["weights"])


def test_lack_of_memory_is_tried_again_in_pieces(run, tmp_path):
    one, other = candidate(1, tmp_path / "a"), candidate(2, tmp_path / "b")
    (tmp_path / "a" / "once-memory").write_text(str(STEPS + 3))
    (tmp_path / "b" / "always-memory").write_text("2")
    lines = {line["rank"]: line for line in run("memory", one, other)}
    assert (lines[1]["status"], lines[1]["micro_batches"]) == ("completed", 4)
    assert (lines[2]["status"], lines[2]["micro_batches"]) == ("out_of_memory", 4)


def test_a_training_that_kills_every_process_is_lost_and_the_others_are_not(run, tmp_path):
    one, other = candidate(1, tmp_path / "a"), candidate(2, tmp_path / "b")
    (tmp_path / "a" / "always-death").write_text("2")
    lines = {line["rank"]: line for line in run("deaths", one, other)}
    assert lines[1]["status"] == "lost"
    assert "died 4 times" in lines[1]["error"]
    assert lines[2]["status"] == "completed"
