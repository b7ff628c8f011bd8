"""Output that may fail without ending the command, for example because its terminal was closed or the disk of its log is full."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any, cast


@contextmanager
def lasting_output() -> Iterator[list[OSError]]:
    """Make standard output and standard error lasting in this context, and yield the errors of standard output.

    The list is empty while nothing was lost. Both streams are flushed at the end of the context, and later output after an error is
    discarded.
    """
    before = sys.stdout, sys.stderr
    lost: list[OSError] = []
    # Python sets a stream to None if its file was closed when it started.
    sys.stdout = before[0] and lasting(before[0], lost)
    sys.stderr = before[1] and lasting(before[1])
    try:
        yield lost
    finally:
        flush_output()
        sys.stdout, sys.stderr = before


def lasting(stream: IO[Any], lost: list[OSError] | None = None) -> IO[Any]:
    """Wrap a stream so that a failed write has no effect, except that all later output to the same file is discarded.

    Args:
        stream: A stream of text or bytes.
        lost: Receives the error of each failed write. Default: a new list.
    """
    return cast("IO[Any]", _Lasting(stream, [] if lost is None else lost))


def flush_output() -> None:
    """Flush standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def open_closed_streams() -> None:
    """Put the null device in place of each standard stream that was closed when the command began.

    Otherwise a file of the run would get its number, and with it what libraries and other processes write to that number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # it stays open for the whole command


def replace_unknown_characters() -> None:
    """Make standard output and standard error replace characters that the terminal's encoding cannot represent."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class _Lasting:
    def __init__(self, stream: IO[Any], lost: list[OSError]) -> None:
        self._stream = stream
        self.lost = lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @property
    def buffer(self) -> IO[Any]:
        return lasting(self._stream.buffer, self.lost)  # type: ignore[attr-defined]

    def write(self, content: Any) -> int:
        try:
            return self._stream.write(content)
        except OSError as error:
            self._drop(error)
            return len(content)

    def writelines(self, lines: Iterable[Any]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def close(self) -> None:
        self.flush()
        self._stream.close()

    def _drop(self, error: OSError) -> None:
        self.lost.append(error)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
