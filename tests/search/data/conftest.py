"""A good tree of two classes to put cases into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.cases import tree


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    """The folder of cats in a good tree: `set/train/cat`."""
    return tree(tmp_path / "set") / "train" / "cat"
