"""Appends to the files of a run such that a failed write leaves no incomplete line in the middle of a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class WriteGuard:
    """Guards the appends to files that belong together: after a failed one, all further ones are refused.

    A disk that is full for a moment must neither leave an incomplete line in the middle of a file nor let one file get ahead of
    another. So the search stops, and a resume repeats the work that was not written.
    """

    def __init__(self) -> None:
        self._failed: OSError | None = None

    @contextmanager
    def appending(self, path: Path) -> Iterator[None]:
        """Guard an append to a file within this block. If it fails, the file is cut back to its earlier length.

        Raises:
            OSError: The write failed, or an earlier one did.
        """
        if self._failed is not None:
            reason = self._failed.strerror or self._failed
            raise OSError(self._failed.errno, f"a write failed, so nothing more is written ({reason})", str(path))
        length = path.stat().st_size
        try:
            yield
        except OSError as error:
            self._failed = error
            with suppress(OSError):
                os.truncate(path, length)
            raise
