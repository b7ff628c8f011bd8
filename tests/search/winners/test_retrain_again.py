"""The command in a report and in a model card gives the retrained winner again, to the last bit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from tests.helpers.tiny import CPU, same_tensors, tiny_config, tiny_data
from tests.search.api.test_api import TINY
from winnow import reports
from winnow.reports.text.winner_recipe import training_command
from winnow.search.cli.main import cli, main
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.ray_backend.shared_data import Job
from winnow.search.training.checkpoint import load
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.retraining import retrain_one

SPACE = """
data: {name: digits, augment: {choice: [none, crop]}}
epochs: 3
batch_size: 64
model: {name: cnn, stages: [{filters: {choice: [8, 16]}}], head: [16], norm: batch, dropout: 0.2}
optimizer: {name: adam, lr: {log: [0.001, 0.1]}}
schedule: {name: cosine, warmup: 1}
weights: lowest_validation_loss
retrain: {top: 1, seeds: 2}
"""


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_a_training_on_all_images_is_a_retraining(tmp_path: Path, micro_batches: int) -> None:
    data, config = tiny_data(), tiny_config(weights="lowest_validation_loss")
    tree = config.model_dump(mode="json")
    job = Job(str(tmp_path / "checkpoints"), "cpu", torch.get_num_threads(), seed=5)
    line, _ = retrain_one(data, Candidate(1, 3, tree, 0.5, micro_batches), 77, job, str(tmp_path / "predictions"))
    assert line["status"] == "completed", line.get("error")
    again = fit_and_test(TrainingJob("tiny", config, 77, "retrain", micro_batches), data, CPU, tmp_path / "again")
    assert again is not None
    for figure in ("test_accuracy", "test_loss", "train_loss", "train_accuracy"):
        assert again[figure] == line[figure], figure
    assert again["weights_epoch"] == config.epochs, "there is nothing to select by"
    assert (line["threads"], line["micro_batches"]) == (torch.get_num_threads(), micro_batches)
    before, after = load(tmp_path / line["weights"]), load(tmp_path / "again" / "weights.pt")
    assert same_tensors(before["weights"], after["weights"])
    alone = fit_and_test(TrainingJob("tiny", config, 77), data, CPU, None)
    assert alone is not None
    assert alone["test_loss"] != line["test_loss"], "without the validation images it is another training"


def test_the_command_has_all_that_decides_the_figures(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lines = (run / "retrain.jsonl").read_text()
    known = lines.replace('"rank": 1,', '"rank": 1, "threads": 3, "micro_batches": 4, "device": "NVIDIA H100",')
    (run / "retrain.jsonl").write_text(known)
    read = reports.read(run)
    command = training_command(read, "winner.yaml")
    expected = "winnow train winner.yaml --seed 101 --fit-validation --threads 3 --micro-batches 4 --device cuda"
    assert command == expected
    assert {option for option in shlex.split(expected) if option.startswith("--")} <= {
        name for parameter in cli.commands["train"].params for name in parameter.opts
    }
    assert training_command(read, "winner.yaml", rank=2) == "winnow train winner.yaml --seed 101 --fit-validation"
    assert training_command(read, "winner.yaml", rank=9) is None
    text = reports.write(run).read_text(encoding="utf-8")
    assert f"winnow train {run / 'report' / 'winner.yaml'} --seed 101 --fit-validation --threads 3" in text


def test_a_resume_must_go_on_as_it_began(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(TINY.replace("{log: [0.001, 0.1]}", "0.01"))
    begin = ["train", "tiny.yaml", "--output", "out"]
    for first, second, words in (
        ([], ["--fit-validation"], "leave out --fit-validation"),
        (["--fit-validation"], [], "give --fit-validation too"),
        ([], ["--seed", "4"], "was started with --seed 0, not 4"),
        ([], ["--set", "epochs=1"], "has run 2 epochs, more than the 1 of this recipe"),
    ):
        with pytest.raises(SystemExit):
            main([*begin, *first])
        with pytest.raises(SystemExit) as end:
            main([*begin, "--resume", *second])
        assert end.value.code == 2
        assert words in capsys.readouterr().err
        for file in Path("out").iterdir():
            file.unlink()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_of_a_report_gives_the_winner_again(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    _winnow(tmp_path, "run space.yaml --name mine --trials 4")
    run = tmp_path / "runs" / "mine"
    text = (run / "report" / "report.html").read_text(encoding="utf-8")
    command = training_command(reports.read(run), Path("runs/mine/report/winner.yaml"))
    assert command is not None
    assert command in text, "the report prints it"
    _winnow(tmp_path, f"{command.removeprefix('winnow ')} --output again")
    row = min((row for row in reports.read(run).rows("retrains") if row["rank"] == 1), key=lambda row: row["seed"])
    assert same_tensors(load(run / row["weights"])["weights"], load(tmp_path / "again" / "weights.pt")["weights"])
    stem = Path(row["weights"]).stem.removeprefix("winner-")
    with np.load(run / "predictions" / f"{stem}.npz") as before, np.load(tmp_path / "again" / "predictions.npz") as now:
        assert all(np.array_equal(before[name], now[name]) for name in before.files)


def _winnow(folder: Path, arguments: str) -> None:
    command = [sys.executable, "-m", "winnow", *shlex.split(arguments)]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
