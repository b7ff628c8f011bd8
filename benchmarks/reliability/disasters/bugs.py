"""Bugs that are put into the real code on purpose: the simulation must find each of them within a few seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from winnow.search.storage.json_lines import epoch_line
from winnow.search.study.ledger import Ledger
from winnow.search.study.record import Record
from winnow.search.study.trials import OpenTrial


def _write_value_first(
    self: Record,
    phase: str,
    trial: OpenTrial,
    report: Mapping[str, Any],
    *,
    rung: int | None = None,
    decision: str | None = None,
) -> dict[str, Any]:
    value, assignment = self.value_of(trial, report), trial.assignment
    if phase == "search" and math.isfinite(value):
        self.write_value(trial, report["epoch"], value)
    figures = {**report, "diverged": not math.isfinite(value)}
    line = epoch_line(phase, assignment.seed, figures, trial=assignment.number, rung=rung, decision=decision)
    self._lines.append(line)
    return line


@contextmanager
def _no_cut(self: Any, path: Any) -> Iterator[None]:
    yield


def _nothing(*_: Any) -> None:
    """Nothing is done."""


def _record_again(self: Ledger, number: int, report: dict[str, Any]) -> bool:
    trial = self._open.get(number)
    if trial is not None and "status" not in report:
        return self._record_epoch(trial, report)
    return _record(self, number, report)


_record = Ledger.record

IGNORED_FSYNC = {"no fsync of epochs": "epochs.jsonl", "no fsync of weights": ".pt."}
"""Bugs that the disk itself plays: the fsync of files whose names hold this is not called."""

BUGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no fsync of epochs": nullcontext,
    "no fsync of weights": nullcontext,
    "study before line": lambda: patch.object(Record, "write_epoch", _write_value_first),
    "no cut after a failed write": lambda: patch("winnow.search.storage.write_guard.WriteGuard.appending", _no_cut),
    "no cut of a torn journal": lambda: patch("winnow.search.study.record.repair_journal", _nothing),
    "no fsync of the folder": lambda: patch("winnow.search.storage.run_folder.sync_folder", _nothing),
    "catch-up forgotten": lambda: patch.object(Record, "catch_up", lambda *_: iter(())),
    "epochs repeated by a worker are recorded again": lambda: patch(
        "winnow.search.study.ledger.Ledger.record", _record_again
    ),
}
