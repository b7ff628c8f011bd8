"""The script for a lent GPU runs from end to end on a CPU; its hand-written loop does what it says."""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from dataclasses import replace
from importlib import metadata
from typing import Any

import click
import numpy as np
import pytest
import torch

from benchmarks.speed import by_hand as by_hand_module
from benchmarks.speed import gpu, gpu_basics
from benchmarks.speed.by_hand import PADDING, by_hand, flipped_and_cropped
from benchmarks.speed.gpu_kit import PRESENT, ROOTS, packages, shrink
from tests.conftest import REPOSITORY
from tests.helpers.doc_blocks import blocks, command_of
from tests.helpers.served_cifar import write_parquet
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.models import build
from winnow.search.cli.main import cli
from winnow.search.operations.reproduction import choose
from winnow.search.training import process_state

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
@pytest.mark.timeout(900)
def test_the_gpu_tests_run_without_ray_and_optuna(tmp_path):
    """The script too is imported without them. Its own limit is too short for a busy machine."""
    for name in ("ray", "optuna"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('{name} is blocked', name='{name}')")
    code = "from benchmarks.speed import gpu, gpu_basics; gpu_basics.TEST_SECONDS = 800; print(gpu_basics._tests())"
    without = {**OFFLINE, "PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    done = subprocess.run([sys.executable, "-c", code], env=without, capture_output=True, text=True)
    assert re.fullmatch(r"passed, exit code 0: \d+ skipped in .*", done.stdout.strip()), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        (("completed", 500, 540, 30, 30), "as probed, released after it: probe 500 MB, trial 540; before 30, after 30"),
        (("completed", 500, 560, 30, 30), "not as probed, released after it"),
        (("completed", 500, 500, 30, 400), "as probed, kept after it"),
        (("failed", 500, 400, 30, 30), "not as probed, released after it"),
    ],
)
def test_the_memory_of_a_trial_is_compared_with_that_of_the_probe(figures, expected):
    assert gpu_basics.memory_words(*figures).startswith(expected)


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """The script's parts on a CPU, with loops that take no time."""
    for name in ("usual", "by_hand", "ours"):
        monkeypatch.setattr(gpu, name, lambda config, data, seed, device, **more: (1.0, 0.5, 100))
    asked = argparse.Namespace(
        device="cpu", quick=True, no_ray=True, only=None, data=None, minutes=7.5, output=tmp_path / "results"
    )
    asked.output.mkdir()
    monkeypatch.setattr(torch, "set_num_threads", lambda num: None)
    return gpu.Benchmark(asked, tmp_path, deadline=math.inf)


def written(benchmark):
    return json.loads((benchmark.asked.output / "gpu-cpu-quick.json").read_text())


def test_after_the_deadline_the_rest_is_left_out_and_named(benchmark, monkeypatch, capsys):
    row = {"images_per_second": 1.0, "memory_mb": 1.0, "device_mb": 1.0, "error": ""}

    def together(*of):
        benchmark.deadline = 0.0
        return row

    monkeypatch.setattr(gpu, "together", together)
    monkeypatch.setattr(gpu, "basics", lambda *of, **more: iter([]))
    benchmark.run()
    found = written(benchmark)
    assert [of["network"] for of in found["loops"]] == ["small", "middle", "large"]
    assert [(of["network"], of["at_once"]) for of in found["packing"]] == [("small", 1)]
    left_out = ["packing: small, 2 at once", "packing: large, 1 at once", "packing: large, 2 at once", "fast_recipe"]
    assert found["left_out"] == left_out
    assert (
        "Left out, since --minutes 7.5 were over: packing: small, 2 at once; packing: large" in capsys.readouterr().out
    )


def test_a_network_that_takes_too_long_gets_no_further_turn(benchmark, monkeypatch):
    turns = []

    def ours(config, data, seed, device):
        turns.append(seed)
        if len(turns) == 3:  # two are for the number of epochs
            benchmark.deadline = 0.0
        return 0.01, 0.5, 100

    monkeypatch.setattr(gpu, "ours", ours)
    benchmark.repeats = 2
    benchmark.loops()
    (row,) = written(benchmark)["loops"]
    assert row["network"] == "small"
    assert {len(rates) for rates in row["images_per_second"].values()} == {1}
    assert written(benchmark)["left_out"] == ["loops: small, turn 2 of 2", "loops: middle", "loops: large"]


def test_a_killed_script_keeps_its_rows(benchmark, monkeypatch):
    config = benchmark.config
    monkeypatch.setattr(benchmark, "config", lambda size: config(size) if size != "middle" else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        benchmark.loops()
    assert [of["network"] for of in written(benchmark)["loops"]] == ["small"]


def test_a_command_ends_at_the_deadline(benchmark, monkeypatch):
    def run(command, timeout, **options):
        assert timeout <= 100
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    benchmark.asked.quick = False
    benchmark.deadline = time.monotonic() + 100
    for part in (benchmark.fast_recipe, benchmark.winnow_run):
        part()
    assert [text.partition(":")[0] for text in benchmark.raw["left_out"]] == ["fast_recipe", "winnow_run"]


def test_the_page_for_the_first_minutes_names_what_exists():
    text = (REPOSITORY / "benchmarks" / "speed" / "gpu.md").read_text()
    names = re.findall(r"`(cifar100?-[a-e]\d+a?)`", text)
    assert len(names) == 6
    assert len(choose(names)) == 6
    assert set(re.findall(r"--only (\w+)", text)) == set(gpu.PARTS)
    (line,) = re.findall(r"python -m winnow (bench-recipes [^`]+)", text)
    words = line.split()
    cli.get_command(click.Context(cli), words[0]).make_context(words[0], words[1:])
    for module in re.findall(r"python -m (benchmarks[\w.]+)", text):
        assert (REPOSITORY / f"{module.replace('.', '/')}.py").is_file()


def test_with_the_links_of_the_page_winnow_needs_no_installation(tmp_path):
    text = (REPOSITORY / "benchmarks" / "speed" / "gpu.md").read_text()
    (line,) = re.findall(r"^ +(ln -s .*)$", text, re.MULTILINE)
    shutil.copytree(REPOSITORY / "winnow", tmp_path / "winnow")
    for name in ("search", "models", "reports", "spaces"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    subprocess.run(shlex.split(line), cwd=tmp_path, check=True)
    assert all(
        (tmp_path / "winnow" / name / "__init__.py").is_file() for name in ("search", "models", "reports", "spaces")
    )
    command = [sys.executable, "-S", "-c", "import winnow.search.resources.packing"]  # -S: no installed packages
    subprocess.run(command, cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True)


def test_the_kit_holds_what_the_machine_lacks():
    carried = {each.partition("==")[0] for each in packages(ROOTS, PRESENT)}
    assert {"ray", "optuna", "pydantic-core", "pytest", "tensorboardx", "msgpack", "sqlalchemy"} <= carried
    assert not carried & {"torch", "sympy", "numpy", "joblib", "winnow-search", "mypy"}
    assert not [name for name in carried if name.startswith("nvidia-c")]
    assert all(
        each == f"{name}=={metadata.version(name)}"
        for each in packages(ROOTS, PRESENT)
        for name in [each.split("==")[0]]
    )


def test_the_kits_ray_is_without_its_unused_parts(tmp_path):
    wheel, archive = tmp_path / "ray.whl", tmp_path / "ray.tar.xz"
    with zipfile.ZipFile(wheel, "w") as file:
        for name, mode in (("ray/core/src/ray/raylet", 0o755), ("ray/tune/a.py", 0o644), ("ray/rllib/b.py", 0o644)):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            file.writestr(entry, name)
    shrink(wheel, archive)
    with tarfile.open(archive) as file:
        assert {each.name: each.mode for each in file} == {"ray/core/src/ray/raylet": 0o755, "ray/tune/a.py": 0o644}
        assert file.extractfile("ray/tune/a.py").read() == b"ray/tune/a.py"


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
    write_parquet(tmp_path / "cifar10", "cifar10", per_class=60)
    command = [str(tmp_path) if word == "data" else word for word in _line("--data")]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=REPOSITORY, env=OFFLINE, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "600 training images, CIFAR-10" in done.stdout
    found = json.loads((tmp_path / "gpu-cpu-quick.json").read_text())
    assert found["fast_recipe"]["exit_code"] == 0, found["fast_recipe"]["errors"]
    run = found["winnow_run"]
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


def test_a_trial_after_an_error_that_sticks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a real GPU, where the process takes no further trial."""

    def fails(self: Any) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(process_state, "_spoiled", [])
    monkeypatch.setattr(torch.optim.Adam, "step", fails)
    config = tiny_config(epochs=1).model_dump(mode="json")
    assert [gpu_basics._trial(config, tiny_data(), "cpu") for _ in range(2)] == ["DeviceLost", "SpoiledProcess"]


@pytest.mark.parametrize("gigabytes", [4, 24, 139])
def test_nearly_nothing_is_left_free_however_large_the_gpu(gigabytes: int) -> None:
    free = gigabytes * 2**30
    assert free - gpu_basics.ballast_bytes(free) < 100 * 2**20
