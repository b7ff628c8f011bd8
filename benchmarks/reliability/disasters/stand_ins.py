"""Stand-ins for what a history simulates besides disk and workers, or what takes long and does not touch the disk."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any, ClassVar
from unittest.mock import patch

import yaml
from filelock import Timeout

from benchmarks.reliability.disasters.training import DATA, DATA_FACTS
from winnow.reports.run_data import RunData
from winnow.reports.schemas import TABLES
from winnow.spaces.grammar.plain_yaml import load_plain


@contextmanager
def quick_serialization() -> Iterator[None]:
    """Read and write YAML and checkpoints faster within this context, in files that a fault damages in the same way."""
    with (
        patch("yaml.safe_load", partial(yaml.load, Loader=yaml.CSafeLoader)),  # in C, which takes a tenth of the time
        patch("yaml.safe_dump", partial(yaml.dump, Dumper=yaml.CSafeDumper)),
        patch("winnow.spaces.grammar.plain_yaml.load_plain", _load_plain),
        patch("torch.save", _save),
        patch("torch.load", _load),
    ):
        yield


def _save(state: dict[str, Any], file: IO[bytes]) -> None:
    content = pickle.dumps(state)
    file.write(zlib.crc32(content).to_bytes(4, "big") + content)


def _load(file: IO[bytes], **_: Any) -> Any:
    checksum, content = file.read(4), file.read()
    if len(checksum) < 4 or zlib.crc32(content) != int.from_bytes(checksum, "big"):
        raise pickle.UnpicklingError("not as it was written")
    return pickle.loads(content)


class _Lock:
    """A lock file, of which only this process knows whether it is locked. A lock is released when its object is deleted, as that of the library."""

    _held: ClassVar[set[str]] = set()

    def __init__(self, path: Path, **_: Any) -> None:
        self._path = os.fspath(path)
        self._is_mine = False

    def acquire(self, **_: Any) -> None:
        if self._path in self._held:
            raise Timeout(self._path)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644))
        self._held.add(self._path)
        self._is_mine = True

    def release(self) -> None:
        if self._is_mine:
            self._is_mine = False
            self._held.remove(self._path)

    def __del__(self) -> None:
        self.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


@contextmanager
def stand_ins(clock: Callable[[], float], temporary: Path) -> Iterator[None]:
    """Replace parts of Winnow within this context.

    Args:
        clock: The monotonic clock, in seconds.
        temporary: Folder of the temporary files.
    """
    with ExitStack() as stack:
        for target, stand_in in {
            **STAND_INS,
            "winnow.search.storage.clock.steady": clock,
            "tempfile.tempdir": str(temporary),
        }.items():
            stack.enter_context(patch(target, stand_in))
        yield


def _load_plain(text: str) -> Any:
    """Read YAML as the real function does, faster if it has read the same text before."""
    return pickle.loads(_read_once(text))


@lru_cache(maxsize=64)
def _read_once(text: str) -> bytes:
    return pickle.dumps(load_plain(text))


def _statuses(run: RunData) -> list[str]:
    return [row["status"] for row in run.trial_rows()]


STAND_INS: dict[str, Any] = {
    "winnow.search.storage.clock._OFFSET": 0.0,  # each start sets both again; afterwards they are as before
    "winnow.search.storage.clock._earliest": 0.0,
    "filelock.FileLock": _Lock,
    "winnow.search.operations.searching.load_data": lambda *_: DATA,
    "winnow.search.operations.searching.check_space": lambda *_: [],
    "winnow.search.operations.searching.load_recorded": lambda *_: DATA,
    "winnow.search.operations.retraining.load_recorded": lambda *_: DATA,
    "winnow.search.operations.searching.describe_data": lambda *_: DATA_FACTS,
    "winnow.search.storage.provenance.origin": lambda: {"versions": {}, "hardware": {}},
    # Simulated time passes in steps of up to a minute, in which no process is suspended.
    "winnow.search.ray_backend.silence.LONGEST_STEP": 60.5,
    # The simulated process that left a file is dead, and it was long ago.
    "winnow.reports.durable.is_alive": lambda _: False,
    "winnow.search.storage.leftovers.is_alive": lambda _: False,
    "winnow.reports.durable.OLD_SECONDS": float("-inf"),
    # No simulated time passes while a file is written, so a thread that beats meanwhile has nothing to do.
    "winnow.search.training.heartbeat._beating_meanwhile": nullcontext,
    # Memory is not simulated, and the counter is looked for in several files.
    "winnow.search.training.heartbeat.note_counter": lambda: "",
    # Of a report, what fits models and draws takes seconds, and does not touch the disk.
    "winnow.reports.tables.parquet.TABLES": {name: TABLES[name] for name in ("epochs", "rungs", "retrains")},
    "winnow.reports.writing.advice": lambda _: [],
    "winnow.reports.writing.winner_config": lambda run: {"trials": _statuses(run)},
    "winnow.reports.writing.page": lambda run: f"<html>{_statuses(run) * 100}</html>",
}
