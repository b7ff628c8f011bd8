"""Output that may fail without ending the command: its terminal is closed, its pipe ends, or the disk of its log is full."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, cast


def lasting(stream: IO[str]) -> IO[str]:
    """Wrap a stream: after a write that fails, all further output is dropped, also what others write to the same file."""
    return cast("IO[str]", _Lasting(stream))


def replace_unknown_characters() -> None:
    """Make standard output and standard error replace the characters that a terminal without UTF-8 does not have."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


class _Lasting:
    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
