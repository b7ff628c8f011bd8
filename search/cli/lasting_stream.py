"""Output that may fail without ending the command, for example because its terminal was closed or the disk of its log is full."""

from __future__ import annotations

import os
import sys
from typing import IO, Any, cast


def lasting(stream: IO[str]) -> IO[str]:
    """Wrap a stream so that a failed write has no effect, except that all later output to the same file is discarded."""
    return cast("IO[str]", _Lasting(stream))


def replace_unknown_characters() -> None:
    """Make standard output and standard error replace characters that the terminal's encoding cannot represent."""
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
