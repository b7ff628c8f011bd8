"""The script that makes the pictures of README: its space is valid, and it takes no picture of a search that found nothing."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from tests.conftest import REPOSITORY
from tests.helpers.make_run import make_run
from winnow import reports
from winnow.spaces import catalog

IMAGES = REPOSITORY / "docs" / "images"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_images", IMAGES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_space_has_a_baseline_and_reads_as_many_images_for_it() -> None:
    space = catalog.load(IMAGES / "photos.yaml")
    assert space.baseline is not None
    assert space.baseline["data"]["limit"] == space.example().data.limit == 5000
    assert space.baseline["epochs"] == space.max_epochs


def test_a_winner_level_with_the_baseline_is_no_finding(make: ModuleType, tmp_path: Path) -> None:
    rows = reports.read(make_run(tmp_path / "run")).winner_rows()
    first, others = rows[0], rows[1:]
    assert first["rank"] == 1
    for low, expected in ((0.01, True), (0.0, False), (-0.01, False), (None, False)):
        assert make.is_finding([{**first, "objective_gain_low": low}, *others]) is expected
    assert not make.is_finding([])
