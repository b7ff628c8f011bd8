"""Limits and several objectives through the real command on real Ray: what the tables, the report and the messages say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.helpers.html import page_text
from tests.search.operations.test_search import start, winnow
from winnow import reports
from winnow.reports.figures.front import front_info
from winnow.reports.reading.journal import read_trials
from winnow.search.data.source import Source
from winnow.search.operations.checks import load_checked
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.fronts import gains, non_dominated

pytestmark = pytest.mark.slow

SPACE = """
data: digits
epochs: 3
batch_size: 128
model: {name: mlp, hidden: {choice: [[4], [8], [16], [64], [256]]}}
optimizer: {name: adam, lr: {log: [0.003, 0.03]}}
search: {trials: 6, sampler: random, grace_epochs: 3}
retrain: {seeds: 1}
"""
OWN = """
from torch import nn


def build(image_shape, num_classes, width):
    if width > 16:
        raise ValueError(f"{width} units are too many")
    channels, height, width_ = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width_, width), nn.ReLU(), nn.Linear(width, num_classes))
"""


@pytest.fixture
def space(tmp_path, monkeypatch, shared_ray) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.yaml").write_text(SPACE)
    return tmp_path / "some.yaml"


def rows(name: str) -> list[dict]:
    return pq.read_table(f"runs/r/report/{name}.parquet").to_pylist()


def test_a_front_is_searched_retrained_reported_and_exported(space, capsys):
    assert winnow("run", str(space), "--name", "r", "--set", "search.objectives=[validation_accuracy, parameters]") == 0
    trials = [row for row in rows("trials") if row["status"] == "completed"]
    values = [(row["objective"], row["num_parameters"]) for row in trials]
    points = gains(values, ["validation_accuracy", "num_parameters"])
    expected = {row["trial"] for row, kept in zip(trials, non_dominated(points), strict=True) if kept}
    front = rows("front")
    assert {row["trial"] for row in front} == expected
    assert [row["rank"] for row in front] == list(range(1, len(front) + 1))
    assert front[0]["objective"] == max(row["objective"] for row in trials)
    winners = {row["trial"]: row for row in rows("winners")}
    assert list(winners) == [row["trial"] for row in front]
    assert all(row["test_accuracy"] == winners[row["trial"]]["test_accuracy"] for row in front)
    run = reports.read(Path("runs/r"))
    info = front_info(run, "num_parameters")
    assert {info.trials[i] for i in info.front} == expected
    assert np.all(np.diff([info.further[i] for i in info.front]) >= 0)
    assert len(info.tested) == len(front)
    page = Path("runs/r/report/report.html").read_text()
    assert f"The front of validation accuracy and parameters has {len(front)} trial" in page_text(page)
    capsys.readouterr()
    assert winnow("show", "r") == 0
    assert f"Front of {len(front)} trial" in capsys.readouterr().out
    smallest = min(row["num_parameters"] for row in front)
    assert winnow("export", "r", "--max-parameters", str(smallest), "--weights-only", "--output", "small") == 0
    about = json.loads(Path("small/model.json").read_text())
    assert winners[about["origin"]["trial"]]["num_parameters"] == smallest
    assert winnow("export", "r", "--max-parameters", "3") == 2
    assert winnow("export", "r", "--max-parameters", "3", "--winner", "1") == 2


def test_a_front_of_two_metrics_and_a_cost(space, capsys):
    """The kept epoch decides about each metric, in the study, the front and the tables; the front is tested by each metric."""
    error = "validation_calibration_error"
    objectives = f"search.objectives=[validation_accuracy, {{minimize: {error}}}, parameters]"
    changes = ("--set", objectives, "--set", "weights=lowest_validation_loss", "--set", "search.grace_epochs=1")
    assert winnow("run", str(space), "--name", "r", *changes) == 0
    trials = [row for row in rows("trials") if row["status"] == "completed"]
    values = [(row["objective"], row[error], row["num_parameters"]) for row in trials]
    kept = non_dominated(gains(values, ["validation_accuracy", error, "num_parameters"]))
    expected = {row["trial"] for row, stays in zip(trials, kept, strict=True) if stays}
    front = {row["trial"]: row for row in rows("front")}
    assert set(front) == expected
    study = {trial.number: trial for trial in read_trials(Path("runs/r/study.journal"))[0]}
    for row in trials:
        epochs = [each for each in rows("epochs") if each["phase"] == "search" and each["trial"] == row["trial"]]
        best = min(epochs, key=lambda each: each["validation_loss"])
        assert (row["objective"], row[error]) == (best["validation_accuracy"], best[error])
        assert study[row["trial"]].user_attrs[f"{error}@{len(epochs)}"] == best[error]
    winners = {row["trial"]: row for row in rows("winners")}
    assert set(winners) == expected
    for trial, row in front.items():
        assert row[error] == next(each[error] for each in trials if each["trial"] == trial)
        assert row["test_accuracy"] == winners[trial]["test_accuracy"] is not None
        assert row["test_calibration_error"] == winners[trial]["test_calibration_error"] is not None
    info = front_info(reports.read(Path("runs/r")), error)
    assert {info.trials[place] for place in info.front} == expected
    assert len(info.tested) == len(front)
    page = Path("runs/r/report/report.html").read_text()
    assert "The front of validation accuracy, validation calibration error and parameters has" in page_text(page)
    assert f'data-query="front-{error}"' in page
    capsys.readouterr()
    assert winnow("show", "r") == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"Front of {len(front)} trial" in printed
    assert "minimizes validation calibration error and parameters" in printed
    assert winnow("export", "r", "--winner", "1", "--weights-only", "--output", "best") == 0
    tested = f"{100 * rows('front')[0]['test_calibration_error']:.2f}"
    card = Path("best/README.md").read_text().replace("\u00a0", " ")
    assert f"- On the test images, by another objective of the search: test calibration error {tested} %." in card


def test_a_search_keeps_to_its_limits_and_says_so(space, capsys):
    limits = ("--set", "search.limits={parameters: 2000, epoch_seconds: 1e-9}")
    assert winnow("search", str(space), "--name", "r", *limits) == 0
    printed = capsys.readouterr().out
    assert "% of 1000 random configs are small enough" in printed
    trials = rows("trials")
    assert {row["status"] for row in trials} == {"infeasible"}
    assert all(row["num_parameters"] <= 2000 and row["num_epochs"] == 2 for row in trials)
    assert all(row["reason"].startswith("epoch_seconds: ") for row in trials)
    assert winnow("show", "r") == 0
    assert "limits parameters <= 2,000" in " ".join(capsys.readouterr().out.split())
    assert winnow("retrain", "r") == 2
    assert winnow("resume", "r", "--set", "search.limits.parameters=5000", "--accept-space-change") == 2
    assert winnow("search", str(space), "--set", "search.limits.parameters=5", "--name", "q") == 2
    assert not Path("runs/q").exists()


def test_a_model_of_ones_own_may_refuse_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text(SPACE)
    Path("refusing_nets.py").write_text(OWN)
    widths = "model={name: 'refusing_nets:build', width: {choice: [8, 16, 32, 64]}}"
    searching = start(tmp_path, "search", "some.yaml", "--name", "r", "--trials", "8", "--set", widths)
    printed, errors = searching.communicate(timeout=280)
    assert searching.returncode == 0, errors
    assert "custom models refuse their config and are infeasible" in printed
    trials = rows("trials")
    refused = [row for row in trials if json.loads(row["config"])["model"]["width"] > 16]
    assert refused
    assert all(row["status"] == "infeasible" and "units are too many" in row["reason"] for row in refused)
    assert any(row["status"] == "completed" for row in trials)
    with pytest.raises(InputError, match=r"model refusing_nets:build raised ValueError: \d\d units are too many"):
        load_checked(catalog.load("some.yaml", [widths.replace("[8, 16, 32, 64]", "[32, 64]")]), Source(Path("data")))
