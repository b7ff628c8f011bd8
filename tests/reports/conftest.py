"""The runs that tests of figures, page and browser share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.helpers.make_run import make_run
from tests.helpers.odd_names import ODD_NAMES
from winnow import reports


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    return reports.read(make_run(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    """A run whose objective is minimized."""
    return reports.read(make_run(tmp_path_factory.mktemp("runs") / "losses", "searched", objective="validation_loss"))


@pytest.fixture(scope="module")
def html_file(run: reports.RunData) -> Path:
    return reports.write(run.path)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> reports.RunData:
    """A run whose classes have names that HTML or Plotly could take for something else."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "odd")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["data"]["class_names"] = list(ODD_NAMES)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return reports.read(folder)
