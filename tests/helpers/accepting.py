"""Lets a command run until it would train: everything that it checks before is checked, and nothing is trained."""

from __future__ import annotations

from typing import Any

import pytest

from winnow.search.operations import retraining, searching, training
from winnow.search.operations.execution import Execution
from winnow.search.winners import candidates, exporting
from winnow.spaces.errors import InputError

ACCEPTED = "winnow: accepted"
"""What a command prints to standard error instead of training."""


class _Accepted(InputError):
    """Raised in place of the first thing that would train."""


def accept_instead_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the commands of a run made by `make_run` end with `ACCEPTED` where they would start Ray, train, or write an export."""

    def stop(*arguments: object, **options: object) -> Any:
        raise _Accepted("accepted")

    for operation in (searching, retraining):
        monkeypatch.setattr(operation, "load_recorded", lambda *arguments: None)
    monkeypatch.setattr(Execution, "recorded_source", lambda *arguments: None)
    monkeypatch.setattr(searching, "check_space", lambda *arguments: [])
    monkeypatch.setattr(candidates, "_check_seeds", lambda *arguments: None)  # those of `make_run` are made up
    monkeypatch.setattr(Execution, "workers", stop)
    monkeypatch.setattr(exporting, "export", stop)
    monkeypatch.setattr(training, "train_recipe", stop)
