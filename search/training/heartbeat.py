"""A heartbeat of a running training, which distinguishes one that hangs from one that is only slow.

The training loop calls `beat` for every batch. Within `beating` this rewrites a small file every few seconds, beside the
checkpoints, where the driver can read it. A model that never returns, or a process that was stopped, no longer beats. A slow
storage is no hang, so checkpoints are written with `write_beating`. The file contains the number of beats, which is 0 until the
first batch, and the process; and in a second line what `winnow.search.training.kernel_kills` notes.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from winnow.search.storage import remote as storage
from winnow.search.training.kernel_kills import killed_since, note_counter

LOCAL_SECONDS, REMOTE_SECONDS = 2.0, 20.0
LONGEST_WRITE = 3600.0
"""Seconds after which a write of a training is no longer taken for a slow one. A storage that never answers would hide a hang."""


def seconds_between(where: str) -> float:
    """Return the seconds between the heartbeats that a training writes to a path or URI, where each write is a request."""
    return REMOTE_SECONDS if storage.is_uri(where) else LOCAL_SECONDS


def beat() -> None:
    """Record that the training in this process has made progress. This takes almost no time."""
    if _beating is not None:
        _beating.beat()


def write_beating(where: str, content: bytes | memoryview) -> None:
    """Write a file of a training, such as a checkpoint, and beat meanwhile. It may take `LONGEST_WRITE` seconds longer than a training
    may be silent.

    Args:
        where: Path or URI of the file.
        content: All bytes of the file.

    Raises:
        OSError: It cannot be written.
    """
    with _beating_meanwhile():
        storage.write(where, content)


@contextmanager
def _beating_meanwhile() -> Iterator[None]:
    if _beating is None:
        yield
        return
    written = threading.Event()
    thread = threading.Thread(target=_beat_until, args=(written, _beating.interval), daemon=True, name="heartbeat")
    thread.start()
    try:
        yield
    finally:
        written.set()
        thread.join()


def _beat_until(written: threading.Event, interval: float) -> None:
    until = time.monotonic() + LONGEST_WRITE
    while not written.wait(interval) and time.monotonic() < until:
        beat()


def write_beat(where: str, content: bytes) -> None:
    """Write the file of a heartbeat.

    Args:
        where: Path or URI of the file.
        content: All bytes of the file.

    Raises:
        OSError: It cannot be written.
    """
    if storage.is_uri(where):
        storage.write(where, content)
    else:  # not through `storage`, which waits for the disk: after a power cut nobody needs the file
        with open(where, "wb") as file:
            file.write(content)


def is_training(beat: bytes) -> bool:
    """Return whether a heartbeat was written after the first batch. Until then the worker imports, reads and builds."""
    return not beat.startswith(b"0 ")


def process_of(beat: bytes | None) -> int | None:
    """Return the id of the process that wrote a heartbeat; None if it is not on this machine."""
    parts = (beat or b"").decode(errors="replace").partition("\n")[0].split(" ", 2)
    # A process that was killed while it wrote the file leaves it incomplete.
    is_whole = len(parts) == 3 and parts[1].isdecimal() and parts[2] == socket.gethostname()
    return int(parts[1]) if is_whole else None


def kernel_kill(beat: bytes | None) -> str | None:
    """Return what is known if the kernel killed the process that wrote a heartbeat because memory ran out; None if it did not.

    Args:
        beat: The last heartbeat of a process that has died; None if there is none. Of another machine nothing is known.
    """
    if process_of(beat) is None:
        return None
    return killed_since((beat or b"").decode(errors="replace").partition("\n")[2])


@contextmanager
def beating(where: str, divisible: bool = True) -> Iterator[None]:
    """Write the heartbeat of a training within this context; the file is deleted at its end.

    Args:
        where: Path or URI of the file.
        divisible: Whether the training can be repeated in micro-batches. If not, the kernel's counter is not noted: where the kernel
            killed another process, the training would end for nothing. Default: True.
    """
    global _beating
    _beating = _Heartbeat(where, divisible)
    try:
        _beating.write()
        yield
    finally:
        _beating = None
        with suppress(OSError):
            storage.delete(where)


class _Heartbeat:
    def __init__(self, where: str, divisible: bool) -> None:
        self._where = where
        self._divisible = divisible
        self.interval = seconds_between(where)
        self._count = 0
        self._process = f"{os.getpid()} {socket.gethostname()}"
        self._due = 0.0

    def beat(self) -> None:
        now = time.monotonic()
        if now < self._due:
            return
        self._count += 1
        self._due = now + self.interval
        self.write()

    def write(self) -> None:
        note = note_counter() if self._divisible else ""
        content = f"{self._count} {self._process}\n{note}".encode()
        with suppress(OSError):  # a full disk ends the training when its checkpoint cannot be written
            write_beat(self._where, content)


_beating: _Heartbeat | None = None
