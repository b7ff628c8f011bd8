"""Reads the trials of `study.journal` with Optuna's own replay, without a lock and without writing to it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna import load_study
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STUDY_NAME = "winnow"


def read_trials(path: Path) -> tuple[list[FrozenTrial], list[str]]:
    """All trials that were asked for, by number, and notes on what could not be read. No file: no trials."""
    if not path.is_file():
        return [], [f"{path.name} is missing: there are no trials to report"]
    logs, notes = _whole_lines(path)
    try:
        study = load_study(study_name=STUDY_NAME, storage=JournalStorage(_ReadOnly(logs)))
    except KeyError:
        return [], [*notes, f"{path.name} holds no study named {STUDY_NAME} yet"]
    trials = study.get_trials(deepcopy=False)
    # A trial that waits in the queue has no config yet.
    return [trial for trial in trials if trial.state.name != "WAITING"], notes


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The log entries up to the first damaged line: what follows it refers to trials by their count, so cannot be used."""
    logs: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        if entry is None:
            rest = len(lines) - number
            if rest == 0:
                return logs, [f"the last line of {path.name} is torn and was left out"]
            return logs, [f"{path.name} is damaged at line {number}: the {rest} lines after it were left out"]
        logs.append(entry)
    return logs, []


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    usable = line.endswith(b"\n") and isinstance(entry, dict) and "op_code" in entry
    return entry if usable else None


class _ReadOnly(BaseJournalBackend):
    """Log entries already read; Optuna's file backend would create the file, and raises on damage in the middle."""

    def __init__(self, logs: list[dict[str, Any]]) -> None:
        self._logs = logs

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        yield from self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise PermissionError("a report does not write to the study")
