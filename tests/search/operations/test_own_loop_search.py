"""A search with a training loop of the user's own, through the real command: killed, resumed, run again, retrained, exported."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.search.operations.test_search import lines_of, start, statuses, wait_for_epochs
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.winners.winner import load_export

LOOP = """
import time

import torch
from torch.nn import functional


def run(config, data, device, checkpoint):
    model = config.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.9)
    for epoch in checkpoint.epochs(model=model, optimizer=optimizer):
        model.train()
        for images, labels in data.loader():
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        time.sleep(config.pause)
        yield {"train_loss": loss, "lr": config.lr}
"""
SPACE = """
data: {name: digits, augment: [{name: crop, padding: 1}]}
epochs: 18
batch_size: 64
model: {name: mlp, hidden: [32], dropout: 0.1}
train: {name: "slow_loop:run", lr: {log: [0.01, 0.2]}, pause: 0.05}
search: {trials: 6}
retrain: {top: 1, seeds: 1}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _winnow(folder: Path, *arguments: str) -> str:
    process = start(folder, *arguments)
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, output + errors
    return output


def test_a_search_with_an_own_loop_is_killed_resumed_and_retrained(tmp_path: Path) -> None:
    (tmp_path / "slow_loop.py").write_text(LOOP)
    (tmp_path / "space.yaml").write_text(SPACE)
    run = tmp_path / "runs" / "r"
    process = start(tmp_path, "search", "space.yaml", "--name", "r", "--num-cpus", "2", "--seed", "2")
    wait_for_epochs(run, 14)
    process.kill()
    process.communicate()
    before = [(line["trial"], line["epoch"], line["validation_accuracy"]) for line in lines_of(run)]
    _winnow(tmp_path, "resume", "r", "--num-cpus", "2")
    lines = [(line["trial"], line["epoch"], line["validation_accuracy"]) for line in lines_of(run)]
    assert lines[: len(before)] == before
    assert len({line[:2] for line in lines}) == len(lines)
    assert statuses(run)["completed"] >= 1
    assert sum(statuses(run).values()) == statuses(run)["completed"] + statuses(run)["stopped"] == 6
    interrupted = {trial for trial, _, _ in before} & {trial for trial, _, _ in lines[len(before) :]}
    assert interrupted  # paused or running when the search was killed
    for trial in interrupted:
        assert "bit-for-bit equal" in _winnow(tmp_path, "rerun", "r", "--trial", str(trial))
    _winnow(tmp_path, "retrain", "r", "--num-cpus", "2")
    (retrained,) = read_json_lines(run / "retrain.jsonl")
    assert retrained["status"] == "completed"
    assert retrained["test_accuracy"] > 0.85
    _winnow(tmp_path, "export", "r", "--weights-only", "--output", "exported")
    winner = load_export(tmp_path / "exported")
    assert winner.predict(np.zeros((1, 8, 8, 1), np.uint8)).shape == (1, 10)
    (tmp_path / "slow_loop.py").write_text(LOOP.replace("momentum=0.9", "momentum=0.5"))
    process = start(tmp_path, "rerun", "r", "--trial", "0")
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 1, output + errors
    assert re.search(r"what changed since then:\n(.*\n)*  slow_loop:run: [0-9a-f]{16} then, [0-9a-f]{16} now", output)


def test_what_is_wrong_with_a_loop_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "slow_loop.py").write_text(LOOP.replace("config.lr, mom", "config.rate, mom"))
    (tmp_path / "space.yaml").write_text(SPACE)
    process = start(tmp_path, "search", "space.yaml", "--name", "r")
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "train slow_loop:run (slow_loop.py:10) raised AttributeError: the config of the loop has no rate" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "runs" / "r").exists()
