"""Keeps the output that a model prints while it trains in a file per trial and per retraining, which `winnow show RUN --trial N` names.

Otherwise it would be in a log of Ray, which is gone after the search.
"""

from __future__ import annotations

import io
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TextIO

from winnow.search.storage import remote as storage

MOST_CHARACTERS = 1_000_000
"""Largest number of characters to keep, so that a model that prints for every batch does not fill the disk."""
CUT = "\n[more was printed, and is not kept]\n"


@contextmanager
def printing_to(where: str | None) -> Iterator[None]:
    """Keep what is printed within the context. A trial that continues appends to its file; without output there is no file.

    Args:
        where: Path or URI of the file. At a URI it is written when the context ends. None: what is printed is not kept.
    """
    if where is None:
        yield
        return
    log = _RemoteLog(where) if storage.is_uri(where) else _LocalLog(where)
    before, _prints.log = _prints.log, log
    try:
        with redirect_stdout(_prints):
            yield
    finally:
        _prints.log = before
        with suppress(OSError):  # a full disk ends the training when its checkpoint cannot be written
            log.close()


class _Prints(io.TextIOBase):
    """The standard output of every training of this process.

    A module may keep it, as `def log(text, out=sys.stdout)` and the handlers of `logging` do, and is imported only once. So it is
    never closed, and what is written to it goes to the log of the training that runs, or to the real output if none runs.
    """

    log: _Log | None = None

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.log is not None:
            return self.log.write(text)
        output = self._output()
        return output.write(text) if output is not None else len(text)

    def flush(self) -> None:
        output = self._output() if self.log is None else None
        if output is not None:
            output.flush()

    def close(self) -> None:
        """Stay open for the next training."""

    def _output(self) -> TextIO | None:
        return sys.__stdout__ if sys.stdout is self else sys.stdout


class _Log(ABC):
    def __init__(self, where: str) -> None:
        self._where = where
        self._left = MOST_CHARACTERS

    def write(self, text: str) -> int:
        if self._left > 0 and text:
            kept = text[: self._left]
            self._left -= len(text)
            with suppress(OSError):
                self._keep(kept if self._left > 0 else kept + CUT)
        return len(text)

    @abstractmethod
    def _keep(self, text: str) -> None:
        """Add a text to the kept output."""

    @abstractmethod
    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: It cannot be written.
        """


class _LocalLog(_Log):
    _file: TextIO | None = None

    def _keep(self, text: str) -> None:
        if self._file is None:
            self._file = Path(self._where).open("a", encoding="utf-8", errors="replace", buffering=1)  # noqa: SIM115  # until `close`
        self._file.write(text)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _RemoteLog(_Log):
    _text = ""

    def _keep(self, text: str) -> None:
        self._text += text

    def close(self) -> None:
        if self._text:
            text, self._text = self._text, ""
            before = b""
            with suppress(FileNotFoundError):
                before = storage.read(self._where)
            storage.write(self._where, before + text.encode("utf-8", "replace"))


_prints = _Prints()
