"""The benchmark of a cluster whose nodes come and go: nodes that join pass the check and train."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks.scale.breathing import share
from tests.conftest import REPOSITORY
from winnow.search.ray_backend.preflight import _data_problems
from winnow.spaces import catalog


def test_a_node_that_joins_finds_the_images_that_were_sent(monkeypatch):
    monkeypatch.setattr("ray.get", lambda reference: reference)
    data = share(SimpleNamespace(put=lambda images: images), catalog.load("digits"))
    assert _data_problems(data.reference, data.fingerprint) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nodes_that_join_train(tmp_path):
    command = [sys.executable, "-m", "benchmarks.scale.breathing", "--minutes", "0.5", "--seconds", "5"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "breathing.json").read_text())
    assert figures["nodes joined"] > 0
    assert figures["nodes set aside"] == 0, done.stderr
    assert "joined and is ready" in done.stderr
    assert figures["worker-seconds trained"] > 0
    assert figures["epochs recorded twice"] == figures["epochs missing"] == 0
    assert figures["bug"] is None
