"""Every line of a run is JSON that any reader accepts, and every epoch is written in one form with the run's clock."""

from __future__ import annotations

import json
import math

import pytest

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.ray_backend.shared_data import Job
from winnow.search.storage import clock
from winnow.search.storage.json_lines import JsonLines, epoch_line, json_line
from winnow.search.winners.candidates import Candidate
from winnow.search.winners.retraining import retrain_one


def strict(line: str) -> dict:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("phase", ["search", "audit", "retrain", "train"])
def test_what_is_not_finite_is_null_in_every_phase(tmp_path, phase):
    figures = {"epoch": 1, "train_loss": math.nan, "lr": math.inf, "batch_losses": [0.5, -math.inf]}
    path = tmp_path / "epochs.jsonl"
    lines = JsonLines(path)
    lines.append(epoch_line(phase, 1, figures, trial=0))
    lines.append({"phase": phase, **figures})  # also what nobody brought into that form
    lines.close()
    for line in path.read_text().splitlines():
        record = strict(line)
        assert (record["train_loss"], record["lr"], record["batch_losses"]) == (None, None, [0.5, None])


def test_the_time_of_an_epoch_is_that_of_the_runs_clock(monkeypatch):
    """A wall clock that was set back does not show in a run."""
    before = clock.now()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert epoch_line("train", 0, {"epoch": 1})["time"] >= before


def test_a_diverged_retraining_and_a_diverged_training_write_json(tmp_path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 0.0)  # a wall clock that was set back
    config = tiny_config(optimizer={"name": "sgd", "lr": 1e30}, epochs=2)
    candidate = Candidate(1, 0, config.model_dump(mode="json"), 0.5)
    job = Job(str(tmp_path), "cpu", threads=1, seed=0)
    result, curve = retrain_one(tiny_data(), candidate, 1, job, str(tmp_path / "predictions"))
    fit_and_test(TrainingJob("tiny", config, 1), tiny_data(), CPU, tmp_path / "train")
    lines = [json_line(record) for record in (*curve, result)]
    lines += (tmp_path / "train" / "epochs.jsonl").read_text().splitlines()
    records = [strict(line) for line in lines]
    assert [record.get("phase") for record in records] == ["retrain", None, "train"]
    assert result["status"] == "diverged"
    assert all(record["train_loss"] is None for record in records if "phase" in record)
    assert all(record["time"] > 1e9 for record in records)
