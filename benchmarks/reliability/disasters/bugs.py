"""Bugs that are put into the real code on purpose: the simulation must find each of them within a few seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

from winnow.search.ray_backend.silence import EPOCHS_OF_SILENCE, NOTHING_MEASURED, SHORTEST_DEFAULT
from winnow.search.storage.json_lines import JsonLines
from winnow.search.storage.write_guard import WriteGuard
from winnow.search.study.journal_file import GroupedJournal
from winnow.search.study.ledger import Ledger
from winnow.search.study.record import Record


def _commit_study_first(self: Record) -> None:
    self._journal.flush_ahead()
    self._journal.flush()
    self._lines.flush()


@contextmanager
def _no_cut(self: Any, path: Any) -> Iterator[None]:
    yield


def _write_on(self: WriteGuard, path: Path) -> AbstractContextManager[None]:
    self._failed = None
    return _appending(self, path)


_appending = WriteGuard.appending


@contextmanager
def _written_on() -> Iterator[None]:
    with patch.object(WriteGuard, "appending", _write_on), patch.object(GroupedJournal, "drop", _nothing):
        yield


def _limit_without_floor(trial_timeout: float | None, longest_epoch: float | None) -> float:
    return trial_timeout or EPOCHS_OF_SILENCE * (longest_epoch or NOTHING_MEASURED)


def _limit_without_multiple(trial_timeout: float | None, longest_epoch: float | None) -> float:
    return trial_timeout or SHORTEST_DEFAULT


def _nothing(*_: Any) -> None:
    """Do nothing."""


def _write_in_place(path: Path, write: Callable[[Path], object]) -> None:
    write(path)


def _only_rename(part: Path, path: Path) -> None:
    part.rename(path)


def _only_make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)


def _record_again(self: Ledger, number: int, report: dict[str, Any]) -> bool:
    trial = self._open.get(number)
    if trial is not None and "status" not in report:
        return self._record_epoch(trial, report)
    return _record(self, number, report)


_record = Ledger.record


@contextmanager
def _line_before_curve() -> Iterator[None]:
    """Write the epochs of a retraining after the line that says that it is done."""
    held: list[tuple[JsonLines, Mapping[str, Any]]] = []

    def append(self: JsonLines, record: Mapping[str, Any]) -> None:
        if record.get("phase") == "retrain":
            held.append((self, record))
            return
        _append(self, record)
        waiting, held[:] = (
            [each for each in held if not each[0]._file.closed],
            [],
        )  # not those of a driver that was killed
        for each in waiting:
            _append(*each)

    with patch.object(JsonLines, "append", append):
        yield


_append = JsonLines.append

IGNORED_FSYNC = {"no fsync of epochs": "epochs.jsonl", "no fsync of weights": ".pt."}
"""Bugs that the disk itself plays: the fsync of files whose names hold this is not called."""

STRUCK_BY = dict.fromkeys(("no cut after a failed write", "written on after a failed write"), "full")
STRUCK_BY["checkpoints of retrainings stay"] = "kill"
"""Bugs that only one kind of fault brings to light, which is then the only one in their histories."""

BUGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "no fsync of epochs": nullcontext,
    "no fsync of weights": nullcontext,
    "study before line": lambda: patch.object(Record, "commit", _commit_study_first),
    "no cut after a failed write": lambda: patch("winnow.search.storage.write_guard.WriteGuard.appending", _no_cut),
    "written on after a failed write": _written_on,
    "no cut of a torn journal": lambda: patch("winnow.search.storage.run_folder.settle_journal", _nothing),
    "no fsync of the folder": lambda: patch.multiple(
        "winnow.search.storage.run_folder", publish=_only_rename, sync_folder=_nothing
    ),
    "no fsync of the folder of new files": lambda: patch("winnow.search.storage.json_lines.sync_folder", _nothing),
    "no fsync of the name of new folders": lambda: patch("winnow.search.storage.run_folder.make_folder", _only_make),
    "catch-up forgotten": lambda: patch.object(Record, "catch_up", lambda *_: iter(())),
    "hung trials not noticed": lambda: patch("winnow.search.ray_backend.hangs.HangWatch.check", _nothing),
    "slow trials killed: no floor": lambda: patch("winnow.search.ray_backend.hangs.limit", _limit_without_floor),
    "slow trials killed: no multiple": lambda: patch("winnow.search.ray_backend.hangs.limit", _limit_without_multiple),
    "slow trials killed: no heartbeats": lambda: patch("winnow.search.ray_backend.silence.Silence.last_beat", _nothing),
    "slow trials killed: no time to start": lambda: patch(
        "winnow.search.ray_backend.silence.Silence.allowed", lambda _, limit: limit
    ),
    "Ctrl-C waits for hung trials": lambda: patch("winnow.search.ray_backend.hangs.HangWatch._give_up", _nothing),
    "leftovers stay": lambda: patch("winnow.search.storage.run_folder.sweep_run", _nothing),
    "reports written in place": lambda: patch("winnow.reports.writing.write_whole", _write_in_place),
    "checkpoints of ended trials stay": lambda: patch("winnow.search.study.ledger.Ledger._discard_left", _nothing),
    "checkpoints of retrainings stay": lambda: patch("winnow.search.winners.retraining._discard_left", _nothing),
    "temporary folders stay": lambda: patch("winnow.search.storage.leftovers.sweep_temporary", _nothing),
    "unfinished run folders stay": lambda: patch("winnow.search.storage.run_folder.sweep_new_runs", _nothing),
    "a deleted run is called kept": lambda: patch("winnow.search.operations.execution._check_not_deleted", _nothing),
    "advice in a circle": lambda: patch("winnow.reports.text.next_step.is_searched", lambda *_: False),
    "state of a process not restored": lambda: patch("winnow.search.training.process_state.restore", lambda *_: []),
    "spoiled process used again": lambda: patch("winnow.search.training.process_state.check_process", _nothing),
    "broken devices used again": lambda: patch("winnow.search.training.errors.spoils_process", lambda _: False),
    "retrainings: line before curve": _line_before_curve,
    "epochs repeated by a worker are recorded again": lambda: patch(
        "winnow.search.study.ledger.Ledger.record", _record_again
    ),
}
