"""Append-only files of JSON objects, and the form of an epoch's line in them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from winnow.reports.durable import sync_folder
from winnow.reports.reading.files import is_present
from winnow.reports.values import finite_or_null
from winnow.search.storage.clock import now
from winnow.search.storage.write_guard import WriteGuard


class JsonLines:
    """An append-only file of JSON objects. If a crash left the last line incomplete, it is ended, and readers skip it.

    A line is written whole or not at all. After a failed write, nothing more is written to the files that share the `guard`.

    A line is on the disk when `append` returns, or `flush` after `add`. The study is written after that, so even after a power
    cut it knows nothing that the lines do not.
    """

    def __init__(self, path: Path, guard: WriteGuard | None = None) -> None:
        is_new = not is_present(path)
        torn = not is_new and path.stat().st_size > 0 and _last_byte(path) != b"\n"
        self._path = path
        self._guard = guard or WriteGuard()
        # Unbuffered: the rest of a failed write would stay in a buffer and be written with the next line.
        self._file = path.open("ab", buffering=0)
        self._waiting = bytearray()
        if torn:
            self._write(b"\n")
        else:  # lines of a process that was killed before they were on the disk
            os.fsync(self._file.fileno())
        if is_new:
            sync_folder(path.parent)

    def append(self, record: Mapping[str, Any]) -> None:
        self.add(record)
        self.flush()

    def add(self, record: Mapping[str, Any]) -> None:
        """Buffer a line until the next `flush`."""
        self._waiting += json_line(record).encode("utf-8")

    def flush(self) -> None:
        """Write the buffered lines, and wait once for the disk. After an error they are dropped."""
        lines, self._waiting = self._waiting, bytearray()
        if lines:
            self._write(lines)

    def close(self) -> None:
        self._file.close()

    def _write(self, lines: bytes | bytearray) -> None:
        with self._guard.appending(self._path):
            rest = memoryview(lines)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())


def json_line(record: Mapping[str, Any]) -> str:
    """Return one line of a file of JSON objects, with its line feed. Numbers that are not finite become null, as JSON lacks them."""
    try:
        return json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n"
    except (ValueError, TypeError):  # a number that is not finite, or a mapping of another type than a dict
        return json.dumps(finite_or_null(record), separators=(",", ":"), allow_nan=False) + "\n"


def epoch_line(
    phase: str,
    seed: int,
    figures: Mapping[str, Any],
    *,
    trial: int | None = None,
    rung: int | None = None,
    decision: str | None = None,
) -> dict[str, Any]:
    """Return one finished epoch as a line of `epochs.jsonl`, stamped with the time of the run's clock.

    Search, audit, retraining and `winnow train` all write their epochs in this form.

    Args:
        phase: `search`, `audit`, `retrain` or `train`.
        seed: Seed of the training.
        figures: Result of `EpochResult.figures`, and where the training ran. Numbers that are not finite become null.
        trial: Number of the trial that the config comes from, -1 for a baseline that no trial completed; None for `train`.
        rung: Index of the rung of this epoch; None if it has none.
        decision: `continue`, `pause` or `stop`; None if nothing was decided.
    """
    about = {"phase": phase, "trial": trial, "seed": seed}
    return {**about, **finite_or_null(figures), "rung": rung, "decision": decision, "time": now()}


def read_epochs(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of `epochs.jsonl` as `read_json_lines` does, if what a search reads of them has the types that Winnow writes.

    Args:
        path: The file of a run. A missing file has no lines.

    Raises:
        InputError: It is not a file.
    """
    from winnow.reports.reading.run import EPOCH_KEYS

    return read_json_lines(path, EPOCH_KEYS | _FURTHER_KEYS)


_FURTHER_KEYS = {
    **dict.fromkeys(("diverged", "last"), (bool, NoneType)),
    **dict.fromkeys(("time", "wall_seconds", "lr"), (int, float, NoneType)),
    "weights_epoch": (int, NoneType),
    "decision": (str, NoneType),
}


def read_json_lines(path: Path, keys: Mapping[str, Sequence[type]] | None = None) -> Iterator[dict[str, Any]]:
    """Yield every record. Lines that are not JSON objects, such as one that a crash left incomplete, are skipped.

    Args:
        path: The file. A missing file has no lines.
        keys: Types that values may have, by key; lines with other values are skipped. A key that may be None may also be missing.
            Default: none are skipped.

    Raises:
        InputError: It is not a file.
    """
    if not is_present(path):
        return
    allowed = (keys or {}).items()
    # Lines of bytes, as Optuna reads its journal. Text would also be split at other line breaks, so that a line could hide code
    # from `check_run_code` that Optuna's records name.
    with path.open("rb") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and all(type(record.get(key)) in types for key, types in allowed):
                yield record


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)
