"""The folders at the top are the packages `winnow.*`: in a checkout, in a wheel, for type checkers, and beside a user's own code."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PARTS = ("models", "reports", "search", "spaces")
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def test_pyproject_names_every_package():
    """A folder that is missing there is missing in the wheel, and nobody notices in a checkout."""
    folders = [
        REPOSITORY / "winnow",
        *(file.parent for part in PARTS for file in (REPOSITORY / part).rglob("__init__.py")),
    ]
    names = {".".join(folder.relative_to(REPOSITORY).parts) for folder in folders}
    expected = {name if name == "winnow" else f"winnow.{name}" for name in names}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == expected


def test_links_for_type_checkers_lead_to_the_folders():
    links = {link.name: link.resolve() for link in (REPOSITORY / ".src" / "winnow").iterdir()}
    own = {file.name: file for file in (REPOSITORY / "winnow").iterdir() if file.name != "__pycache__"}
    assert links == own | {part: REPOSITORY / part for part in PARTS}


@pytest.mark.slow
def test_wheel_holds_everything(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, REPOSITORY], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("winnow/")}
    tracked = subprocess.run(["git", "ls-files", *PARTS], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert packed >= {f"winnow/{name}" for name in tracked.stdout.split()}


NETS = """
from torch import nn

def build(image_shape, num_classes, width=16):
    c, h, w = image_shape
    return nn.Sequential(nn.Flatten(), nn.Linear(c * h * w, width), nn.ReLU(), nn.Linear(width, num_classes))
"""
SPACE = """
data: digits
epochs: 1
batch_size: 64
model: {name: "models.nets:build", width: {choice: [8, 16]}}
optimizer: {name: adam, lr: 1.0e-3}
search: {trials: 2}
retrain: {top: 1, seeds: 1}
"""
SCRIPT = """
import json
import numpy as np
from winnow import search

run = search.run("space.yaml", name="own")
winner = search.load_winner("runs/own")
channels, height, width = winner.image_shape
probabilities = winner.predict(np.zeros((1, height, width, channels), np.uint8))
print("RESULT", json.dumps([list(run.trials["status"]), list(probabilities.shape)]))
"""


def users_project(folder: Path) -> None:
    """A project whose packages have the names of Winnow's folders, as most PyTorch projects have a `models`."""
    (folder / "models").mkdir()
    (folder / "models" / "__init__.py").touch()
    (folder / "models" / "nets.py").write_text(NETS)
    for name in ("search", "spaces"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('the user\\'s {name} was imported')\n")
    (folder / "reports.py").write_text("raise RuntimeError('the user\\'s reports was imported')\n")
    (folder / "space.yaml").write_text(SPACE)
    (folder / "script.py").write_text(SCRIPT)


@pytest.mark.slow
def test_a_project_with_packages_of_the_same_names_works(tmp_path):
    users_project(tmp_path)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    assert json.loads(result.removeprefix("RESULT")) == [["completed", "completed"], [1, 10]]
