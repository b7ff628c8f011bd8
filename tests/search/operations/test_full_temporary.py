"""The disk of the temporary files runs full during a real search: it is named, and nothing is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.small_disk import fill_with_bytes, fill_with_files, small_disk
from winnow.reports.reading.journal import read_trials
from winnow.search.storage.json_lines import read_json_lines

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NETS = """
import os, time
from torch import nn

class Net(nn.Sequential):
    def forward(self, images):
        if self.training and images.device.type != "meta":
            time.sleep(0.1)
            if os.path.exists(os.path.join(os.path.dirname(__file__), "die")):
                os._exit(1)
        return super().forward(images)

def build(image_shape, num_classes):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""
SPACE = """
data: {name: digits, validation: 0.2}
epochs: 3
batch_size: 256
model: {name: "mortal_nets:build"}
optimizer: {name: adam, lr: {choice: [0.01, 0.02, 0.03, 0.04]}}
search: {trials: 4, grace_epochs: 3, sampler: grid}
"""


@pytest.fixture
def short() -> Iterator[str]:
    """A folder for Ray, whose paths must be short."""
    folder = tempfile.mkdtemp(prefix="wn", dir="/tmp")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize(("fill", "dies"), [(fill_with_files, False), (fill_with_bytes, True)])
def test_a_full_disk_of_temporary_files_is_named(
    tmp_path: Path, short: str, fill: Callable[[Path], None], dies: bool
) -> None:
    """Ray's session is there. Tune makes a folder in it for each trial, and a file for each worker that dies."""
    (tmp_path / "mortal_nets.py").write_text(NETS)
    (tmp_path / "space.yaml").write_text(SPACE)
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}", "RAY_TMPDIR": short}
    environment |= {"RAY_worker_niceness": "0"}
    winnow = [sys.executable, "-m", "winnow"]
    with small_disk(Path(short), megabytes=64, files=2000):
        search = subprocess.Popen(
            [*winnow, "search", "space.yaml", "--name", "r", "--num-cpus", "1"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            deadline = time.monotonic() + 200
            while not list(read_json_lines(tmp_path / "runs" / "r" / "epochs.jsonl")):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            fill(Path(short))
            if dies:
                (tmp_path / "die").touch()
            output, _ = search.communicate(timeout=200)
        finally:
            search.kill()
    assert search.returncode == 2, output
    last = output.splitlines()[-1]
    assert last.startswith(f"winnow: {short}"), output
    assert last.endswith(
        "temporary files cannot be written (No space left on device); nothing is lost. Free some space there, or set TMPDIR and "
        "RAY_TMPDIR to other folders, then: winnow resume runs/r"
    )
    assert "Traceback" not in output
    (tmp_path / "die").unlink(missing_ok=True)
    again = subprocess.run(
        [*winnow, "resume", "runs/r"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    trials = read_trials(tmp_path / "runs" / "r" / "study.journal")[0]
    assert [trial.user_attrs["status"] for trial in trials] == ["completed"] * 4
