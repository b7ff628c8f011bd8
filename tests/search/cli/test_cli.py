"""The command line with bad input: one clear message, exit code 2, no traceback, nothing launched, nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import ray
from PIL import Image

from winnow.search.cli.main import main
from winnow.search.operations import training
from winnow.search.training.checkpoint import save

TINY = "data: digits\nepochs: 2\nbatch_size: 64\nmodel: {name: mlp, hidden: [8]}\noptimizer: {name: adam, lr: {log: [0.001, 0.1]}}\n"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def winnow(tmp_path, monkeypatch, capfd) -> Callable[..., Done]:
    """The command in this process, in an empty folder; anything but a clean exit fails the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Done:
        with pytest.raises(SystemExit) as end:
            main(list(arguments))
        return Done(int(end.value.code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def refused(winnow) -> Callable[..., str]:
    """The message of a command that must end with 2, and before anything is launched."""

    def call(*arguments: str) -> str:
        done = winnow(*arguments)
        assert done.returncode == 2, done.stderr
        assert not ray.is_initialized()
        return done.stderr

    return call


def space_file(folder: Path, text: str) -> str:
    (folder / "space.yaml").write_text(text)
    return "space.yaml"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("batch_size", "batch_sise"), ["space.yaml:3:", "batch_sise", "batch_size"]),
        (("[0.001, 0.1]", "[0.1, 0.001]"), ["space.yaml:5:", "optimizer.lr", "0.1", "0.001"]),
        (("adam", "adan"), ["space.yaml:5:", "adan", "adam"]),
        (("name: mlp, hidden: [8]", "name: cnn, stages: [{filters: 4}, {filters: 4}, {filters: 4}, {filters: 4}]"), ["space.yaml:4:", "model.stages.3", "leaves nothing"]),
        (("data: digits", "data: {name: parquet, path: nowhere}"), ["nowhere"]),
        (("hidden: [8]}", "hidden: [8}"), ["space.yaml:4:"]),
        (("data: digits", "data: {name: image_folder, path: images, image_size: 8}"), ["images", "empty"]),
    ],
    ids=["misspelt key", "inverted range", "unknown optimizer", "pools to nothing", "no data", "no YAML", "empty class"],
)  # fmt: skip
def test_bad_spaces(tmp_path, refused, change, expected):
    for name, count in (("cats", 3), ("empty", 0)):
        (tmp_path / "images" / "train" / name).mkdir(parents=True)
        for k in range(count):
            Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "images" / "train" / name / f"{k}.png")
    message = refused("search", space_file(tmp_path, TINY.replace(*change)))
    for words in expected:
        assert words in message
    assert not (tmp_path / "runs").exists()


def test_a_run_folder_that_exists(tmp_path, refused):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    message = refused("search", space_file(tmp_path, TINY), "--name", "mine")
    assert "exists already" in message
    assert "winnow resume" in message


def test_an_unwritable_place(tmp_path, refused):
    (tmp_path / "file").write_text("")
    message = refused("search", space_file(tmp_path, TINY), "--runs-dir", "file")
    assert "cannot write" in message
    assert "--runs-dir" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "digitz"], ["digitz", "digits"]),
        (["search", "digits", "--set", "optimiser.lr=1"], ["--set", "optimiser", "optimizer"]),
        (["search", "digits", "--time-budget", "soon"], ["time budget", "'soon'", "5m"]),
        (["search", "digits", "--grace-epochs", "99"], ["--grace-epochs", "99"]),
        (["search", "digits", "--trials", "0"], ["--trials", "0"]),
        (["search", "digits", "--sampler", "best"], ["best", "tpe"]),
        (["resume", "nothing"], ["nothing", "no run here"]),
        (["show", "nothing"], ["nothing", "no run here"]),
        (["report", "nothing"], ["no run here"]),
        (["train", "digits"], ["not a recipe", "winnow run"]),
        (["train", "recipes/cifar10-baseline"], ["--download"]),
        (["nonsense"], ["nonsense"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_commands(tmp_path, refused, arguments, expected):
    message = refused(*arguments)
    for words in expected:
        assert words in message
    assert list(tmp_path.iterdir()) == []


def test_spaces_lists_and_prints(winnow):
    listing = winnow("spaces")
    assert listing.returncode == 0
    for name in ("digits", "cifar10-cnn", "cifar100-cnn", "recipes/cifar100-a1"):
        assert name in listing.stdout
    one = winnow("spaces", "digits", "--set", "epochs=3")
    assert "optimizer.adam.lr" in one.stdout
    assert '"$defs"' in winnow("spaces", "--json-schema").stdout


def test_train_writes_and_repeats(tmp_path, winnow, refused):
    """The config that `winnow train` writes is a recipe, and trains to the same figures with the same seed."""
    recipe = ("recipes/digits-baseline", "--threads", "1", "--seed", "3")
    whole = winnow("train", *recipe, "--set", "epochs=3", "--output", "whole")
    assert whole.returncode == 0, whole.stderr
    assert "test accuracy" in whole.stdout
    assert "validation: 20% of the training images, stratified, drawn with seed 3" in whole.stdout
    written = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert set(written) >= {
        "checkpoint.pt",
        "config.yaml",
        "epochs.jsonl",
        "predictions.npz",
        "result.json",
        "weights.pt",
    }
    again = winnow("train", "whole/config.yaml", "--threads", "1", "--seed", "3", "--output", "again")
    figures = [line.split("lr")[0] for line in whole.stdout.splitlines() if line.startswith("epoch")]
    assert len(figures) == 3
    assert figures == [line.split("lr")[0] for line in again.stdout.splitlines() if line.startswith("epoch")]
    message = refused("train", *recipe, "--output", "whole")
    assert "--resume" in message
    checkpoint = tmp_path / "whole" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    message = refused("train", *recipe, "--output", "whole", "--resume")
    assert "whole/checkpoint.pt: incomplete checkpoint" in message
    assert "choose another --output" in message


@pytest.mark.parametrize(
    ("room", "advice"), [(4_000, "Start it again once"), (-1, "What was written before is kept: add --resume")]
)
def test_a_disk_without_room_ends_a_training_in_words(tmp_path, monkeypatch, winnow, room, advice):
    """A limit of the size of files stands in for the disk. With -1 the first checkpoint is written, but not the second."""
    recipe = ("recipes/digits-baseline", "--threads", "1", "--seed", "3", "--set", "epochs=2", "--output", "out")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full_from_the_second(where: Path, state: dict[str, Any]) -> None:
        save(where, state)
        monkeypatch.setattr(training, "save", full)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if room < 0:
        monkeypatch.setattr(training, "save", full_from_the_second)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        ended = winnow("train", *recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.returncode == 2, ended.stderr
    reason = "File too large" if room > 0 else "No space left on device"
    assert f"winnow: --output: {reason}: out. {advice}" in ended.stderr
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert winnow("train", *recipe, *(["--resume"] if room < 0 else [])).returncode == 0


RECIPE = ("recipes/digits-baseline", "--threads", "1", "--seed", "3")


@pytest.fixture
def full_at(monkeypatch) -> Callable[[str], AbstractContextManager[None]]:
    """A context in which the disk has no room for files of this name."""
    replace = os.replace

    @contextmanager
    def full(name: str) -> Iterator[None]:
        def publish(part: Path, path: Path) -> None:
            if path.name == name:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(part, path)

        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", publish)
            yield

    return full


@pytest.mark.parametrize("file", ["predictions.npz", "weights.pt", "result.json"])
def test_a_training_that_could_not_be_tested_is_only_tested_by_its_resume(tmp_path, winnow, refused, full_at, file):
    recipe = (*RECIPE, "--set", "epochs=2")
    assert winnow("train", *recipe, "--output", "whole").returncode == 0
    with full_at(file):
        ended = winnow("train", *recipe, "--output", "out")
    assert ended.returncode == 2
    assert "No space left on device: out. What was written before is kept: add --resume once" in ended.stderr
    epochs = (tmp_path / "out" / "epochs.jsonl").read_bytes()
    assert "continue it with --resume" in refused("train", *recipe, "--output", "out")
    resumed = winnow("train", *recipe, "--output", "out", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "out" / "epochs.jsonl").read_bytes() == epochs, "no epoch is trained again"
    assert figures(tmp_path / "out") == figures(tmp_path / "whole")
    for options in ([], ["--resume"]):
        assert "out: holds a training that is complete" in refused("train", *recipe, "--output", "out", *options)


def test_the_result_of_fewer_epochs_is_not_that_of_more(tmp_path, winnow, full_at):
    assert winnow("train", *RECIPE, "--set", "epochs=1", "--output", "out").returncode == 0
    more = ("train", *RECIPE, "--set", "epochs=2", "--output", "out", "--resume")
    with full_at("weights.pt"):
        assert winnow(*more).returncode == 2
    assert not (tmp_path / "out" / "result.json").exists()
    assert winnow(*more).returncode == 0
    assert figures(tmp_path / "out")["epochs"] == 2


def test_only_the_training_that_was_begun_is_resumed(tmp_path, winnow, refused):
    """Its epochs would stand beside those of another config. More epochs, and images that moved, are no other training."""
    assert winnow("train", *RECIPE, "--set", "epochs=1", "--output", "out").returncode == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    other = ("train", *RECIPE, "--set", "epochs=2", "--set", "optimizer.lr=0.0125", "--output", "out", "--resume")
    message = refused(*other)
    assert re.search(
        r"out.config\.yaml: the training in this folder has optimizer\.lr \S+, not 0\.0125; give the same", message
    )
    (tmp_path / "out" / "config.yaml").write_text("epochs: [1")
    assert "config.yaml: cannot be read (" in refused(*other)
    (tmp_path / "out" / "config.yaml").write_bytes(before[tmp_path / "out" / "config.yaml"])
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before


def figures(folder: Path) -> dict[str, Any]:
    """The final figures without those of the clock."""
    result = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in ("wall_seconds", "images_per_second")}
