"""The benchmark of checkpoints: its arithmetic, and that it runs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks.speed.checkpoints import WHOLE, shares
from tests.conftest import REPOSITORY


def test_the_share_is_that_of_a_whole_epoch():
    figures = {"train_images": WHOLE // 9, "epoch_seconds": [0.5, 1.0, 9.0], "checkpoint_seconds": [0.5, 1.0, 2.0]}
    assert shares(figures, is_cifar=True) == {
        "whole_epoch_seconds": 9.0,
        "share": 0.1,
        "seconds_of_epochs_with_1_percent": 99.0,
    }
    assert shares(figures, is_cifar=False)["share"] == 0.5


@pytest.mark.slow
def test_it_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.speed.checkpoints", "--checkpoints", "2", "--images", "200"]
    command += ["--cases", "digits-baseline", "cifar10-baseline", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "checkpoints-cpu.json").read_text())
    assert [row["case"] for row in found["cases"]] == ["digits-baseline", "cifar10-baseline"]
    for row in found["cases"]:
        assert len(row["checkpoint_seconds"]) == 2
        assert row["checkpoint_bytes"] > 12 * row["parameters"]  # weights and the two moments of Adam, float32
        assert f"| {row['case']} | {row['parameters']:,} |" in done.stdout
