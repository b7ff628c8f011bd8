"""The script for a lent GPU runs from end to end on a CPU; its hand-written loop does what it says."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.speed import by_hand as by_hand_module
from benchmarks.speed.by_hand import PADDING, by_hand, flipped_and_cropped
from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import blocks, command_of
from tests.helpers.served_cifar import write_parquet
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.models import build

OFFLINE = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPOSITORY)}


def test_every_image_is_a_window_of_its_own_or_the_mirror_of_one():
    torch.manual_seed(0)
    padded = torch.rand(40, 3, 6 + 2 * PADDING, 5 + 2 * PADDING)
    cut = flipped_and_cropped(padded)
    assert cut.shape == (40, 3, 6, 5)
    mirrored = set()
    for image, whole in zip(cut, padded, strict=True):
        windows = whole.unfold(1, 6, 1).unfold(2, 5, 1).permute(1, 2, 0, 3, 4).flatten(0, 1)
        plain, mirror = (any(torch.equal(image, w) for w in windows) for image in (image, image.flip(2)))
        assert plain != mirror
        mirrored.add(mirror)
    assert mirrored == {False, True}


def test_the_loop_by_hand_learns():
    data = tiny_data(num_train=150)
    images = np.full_like(data.train_images, 60)  # a class has its colour, which no crop takes away
    images[np.arange(150), :, :, data.train_labels] = 200
    seconds, accuracy, num_images = by_hand(tiny_config(epochs=15), replace(data, train_images=images), 0, CPU)
    assert seconds > 0
    assert num_images == 120
    assert accuracy > 0.6  # of three classes


def test_a_step_on_fixed_buffers_is_the_same_training(monkeypatch):
    """What a CUDA graph would replay, called on a CPU: also with a smaller last batch, which is not recorded."""
    weights = []
    monkeypatch.setattr(by_hand_module, "build", lambda *of: weights.append(build(*of)) or weights[-1])
    config = tiny_config(epochs=2, batch_size=50)
    for launch in ("kernels", "graph"):
        by_hand(config, tiny_data(num_train=150), 0, CPU, launch)
    steps, graph = (model.state_dict() for model in weights)
    assert all(torch.equal(steps[name], graph[name]) for name in steps)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_script_on_a_cpu(tmp_path):
    done = subprocess.run(
        [*_line("--no-ray"), "--output", str(tmp_path)], cwd=REPOSITORY, env=OFFLINE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.iterdir()
    found = json.loads(file.read_text())
    assert [row["network"] for row in found["loops"]] == ["small", "middle", "large"]
    for row in found["loops"]:
        assert len(row["images_per_second"]) == 5
        assert all(rate > 0 for rates in row["images_per_second"].values() for rate in rates)
        assert f"| {row['network']} |" in done.stdout
    assert [(row["network"], row["at_once"]) for row in found["packing"]] == [
        (size, n) for size in ("small", "large") for n in (1, 2)
    ]
    assert all(row["images_per_second"] > 0 and not row["error"] and not row["mps"] for row in found["packing"])
    assert found["fast_recipe"]["exit_code"] == 0, found["fast_recipe"]["errors"]
    assert "test accuracy" in found["fast_recipe"]["output"]
    assert "winnow_run" not in found
    assert [row["name"] for row in found["basics"] if row["right"]] == [
        "a training",
        "a lack of memory",
        "a device-side assert",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_whole_run(tmp_path):
    data = str(write_parquet(tmp_path / "cifar10", "cifar10", per_class=60))
    command = [data if word == "data/cifar10" else word for word in _line("--data")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=REPOSITORY, env=OFFLINE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "600 training images, CIFAR-10" in done.stdout
    run = json.loads((tmp_path / "gpu-cpu-quick.json").read_text())["winnow_run"]
    assert run["exit_code"] == 0
    assert run["trials"] == 2
    assert run["test_accuracies_of_the_winner"]


@pytest.mark.slow
def test_without_a_gpu_it_says_so():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.speed.gpu"], cwd=REPOSITORY, env=OFFLINE, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "--device cuda: torch sees no GPU here" in done.stderr


def _line(option: str) -> list[str]:
    """The line of the docs with that option, made quick."""
    (block,) = blocks("docs/measurements.md", "What a GPU gives")
    with_data, without_ray = block.text.splitlines()
    words = shlex.split(command_of({"--data": with_data, "--no-ray": without_ray}[option]))
    assert words[0] == "python"
    return [sys.executable, *words[1:], "--device", "cpu", "--quick"]
