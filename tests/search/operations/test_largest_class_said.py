"""Views and lines show accuracies without the share of the largest class, so it is said once at the start of a retraining and of a resume.

A new search says it in its summary of the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.make_run import make_run
from winnow.search.operations import retraining, searching
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.amendments import RunChanges

TEST = "Always predicting the largest class would reach a test accuracy of 10.00\u00a0%."
VALIDATION = "Always predicting the largest class would reach a validation accuracy of 12.20\u00a0%."


class Told(Exception):
    """Ends a command before a worker starts."""


def execution(said: list[str], reaches_workers: bool) -> Any:
    """An execution whose view keeps what it is told, and which has no workers."""

    @contextmanager
    def workers(*_: Any, **__: Any) -> Iterator[Any]:
        if not reaches_workers:
            raise Told
        yield None, None, [None]

    view = SimpleNamespace(announce=said.append, step=said.append, message=said.append)
    made: Any = SimpleNamespace(view=view, log=(), recorded_source=lambda study: None, workers=workers)
    made.connected = lambda: made
    return made


def ends(*_: Any, **__: Any) -> None:
    raise Told


def test_a_retraining_begins_with_that_of_the_test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(make_run(tmp_path / "run", "searched"))
    monkeypatch.setattr(retraining, "load_recorded", lambda *_, **__: None)
    monkeypatch.setattr(retraining, "recorded_gpus", lambda *_: None)
    monkeypatch.setattr(retraining, "job_of", ends)
    said: list[str] = []
    with pytest.raises(Told):
        retraining.retrain(folder, execution(said, reaches_workers=True))
    assert said[0].startswith("retraining 4 configs")
    assert said[1:] == [TEST]


@pytest.mark.parametrize("objective", ["validation_accuracy", "validation_loss"])
def test_a_resume_begins_with_that_of_the_validation_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: str
) -> None:
    """Unless its values are of another metric."""
    folder = RunFolder(make_run(tmp_path / "run", "searching", objective=objective))
    monkeypatch.setattr(searching, "replace", lambda execution, **_: execution)
    monkeypatch.setattr(searching, "load_recorded", lambda *_, **__: None)
    monkeypatch.setattr(searching, "recorded_gpus", lambda *_: None)
    said: list[str] = []
    with pytest.raises(Told):
        searching.resume(folder, RunChanges(), execution(said, reaches_workers=False))
    assert (VALIDATION in said) == (objective == "validation_accuracy")
