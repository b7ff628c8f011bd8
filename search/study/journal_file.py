"""Opens the Optuna study of a run, whose entries are written to its journal file in groups."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from winnow.reports.durable import sync_folder
from winnow.reports.reading.journal import read_trials
from winnow.reports.reading.run import check_trials
from winnow.search.settings import Direction
from winnow.search.storage.run_folder import RunFolder, read_journal
from winnow.search.storage.write_guard import WriteGuard
from winnow.spaces.errors import InputError

STUDY_NAME = "winnow"


def open_study(
    folder: RunFolder, direction: Direction, guard: WriteGuard | None = None
) -> tuple[GroupedJournal, JournalStorage, optuna.Study]:
    """Open the study of a run, or create it. The caller must hold the lock of the run. Later writes wait for a `flush`.

    Args:
        folder: The run.
        direction: Whether a larger or a smaller objective is better.
        guard: Guard that is shared with the other files of the study. Default: a new one.

    Returns:
        The journal, the storage that uses it, and the study.

    Raises:
        InputError: The journal is damaged, or cannot be opened.
    """
    if optuna.logging.get_verbosity() != optuna.logging.ERROR:  # setting it clears a cache of each logger
        optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        journal = GroupedJournal(folder.journal, guard or WriteGuard())
        storage = JournalStorage(journal)
        study = optuna.create_study(storage=storage, study_name=STUDY_NAME, direction=direction, load_if_exists=True)
        journal.flush()
        sync_folder(folder.path)  # otherwise a power failure could take the name of a new journal
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{folder.journal}: cannot be opened ({error.strerror or error})") from error
    except Exception as error:  # Optuna believes what it reads, and a run may come from somebody else
        check_trials(folder.journal, read_trials(folder.journal)[0])  # names the line or the trial
        raise InputError(
            f"{folder.journal}: damaged: Optuna cannot read it ({type(error).__name__}: {error})"
        ) from error
    check_trials(folder.journal, study.get_trials(deepcopy=False))
    return journal, storage, study


class GroupedJournal(JournalFileBackend):
    """Optuna's journal file, written in groups. An entry is in the study at once, and on the disk after `flush`.

    Entries that are made within `ahead` depend on no line, so `flush_ahead` writes them before the
    others. A write that fails leaves no partial line. No other process writes the file, so it is
    read only once.
    """

    def __init__(self, path: Path, guard: WriteGuard) -> None:
        super().__init__(str(path), lock_obj=_NoLock(str(path)))
        self._path = path
        self._guard = guard
        self._is_read = False
        self._unread: list[dict[str, Any]] = []
        self._waiting = bytearray()
        self._waiting_ahead = bytearray()
        self._is_ahead = False

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        if not self._is_read:
            self._is_read = True
            yield from read_journal(self._path)
        unread, self._unread = self._unread, []
        yield from unread

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        waiting = self._waiting_ahead if self._is_ahead else self._waiting
        for log in logs:
            line = json.dumps(log, separators=(",", ":"))
            waiting += f"{line}\n".encode()
            self._unread.append(json.loads(line, object_pairs_hook=_interned))  # what a later start will read

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Let `flush_ahead` write the entries that are made in this context."""
        self._is_ahead = True
        try:
            yield
        finally:
            self._is_ahead = False

    def drop(self) -> None:
        """Discard the entries that have not been written."""
        self._waiting, self._waiting_ahead = bytearray(), bytearray()

    def flush(self) -> None:
        """Write the waiting entries with a single wait for the disk; they are discarded after an error."""
        lines, self._waiting = self._waiting, bytearray()
        self._append(lines)

    def flush_ahead(self) -> None:
        """Write the entries that were made within `ahead`, with a single wait for the disk; they are discarded after an error."""
        lines, self._waiting_ahead = self._waiting_ahead, bytearray()
        self._append(lines)

    def _append(self, lines: bytearray) -> None:
        if lines:
            with self._guard.appending(self._path), self._path.open("ab", buffering=0) as file:
                rest = memoryview(lines)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())


class _NoLock(JournalFileOpenLock):
    """A lock that does nothing: the lock of the run folder (`RunFolder.locked`) already admits only one driver.

    Optuna's own lock is a link beside the journal. A killed driver leaves it behind, and Optuna would then wait for it.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _interned(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object that shares its keys with all others: half of a trial's memory would be the keys of its config."""
    return {sys.intern(key): value for key, value in pairs}
