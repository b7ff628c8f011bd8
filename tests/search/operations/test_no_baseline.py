"""A search without a baseline, and its plan, say how to name one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from winnow.reports.text.wording import NO_BASELINE
from winnow.search.data.source import Source
from winnow.search.operations.probing import plan_search
from winnow.search.operations.searching import NewRun, search
from winnow.search.settings import settings_for
from winnow.spaces import catalog
from winnow.spaces.space import Space


@pytest.fixture(params=[False, True], ids=["without", "with a baseline"])
def space(request: pytest.FixtureRequest) -> Space:
    named = catalog.load("digits")
    tree = {key: value for key, value in named.tree.items() if key not in ("start_from", "baseline")}
    return named if request.param else Space.from_tree(tree, "own.yaml")


class Told(Exception):
    """Ends a search before it starts Ray."""


def test_the_search_says_how_to_name_a_baseline(space: Space, tmp_path: Path) -> None:
    said: list[str] = []

    def no_workers(*_: Any, **__: Any) -> None:
        raise Told

    view = SimpleNamespace(announce=said.append, step=said.append, message=said.append)
    execution: Any = SimpleNamespace(view=view, log=(), new_source=Source(tmp_path), workers=no_workers)
    execution.connected = lambda: execution
    with pytest.raises(Told):
        search(space, settings_for(space), NewRun(tmp_path), execution)
    assert (NO_BASELINE in said) == (space.baseline is None)


def test_the_plan_says_how_to_name_a_baseline(space: Space) -> None:
    notes = plan_search(space, settings_for(space), None, lambda _: None).notes
    assert (NO_BASELINE in notes) == (space.baseline is None)
