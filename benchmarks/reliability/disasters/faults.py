"""Decides which operation of a simulated disk fails, and how."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ProcessKilled(BaseException):
    """The process that writes dies here; nothing of what follows in it happens."""


class PowerCut(BaseException):
    """All processes die, and the disk keeps what was synced and a part of the rest."""


STRIKES_AT = {"full": ("append", "append", ""), **dict.fromkeys(("kill", "power"), ("", "", "after append", "delete"))}
"""The next kind of operation at which a fault strikes; empty for any. Most writes are checkpoints, but what follows a line relies on it."""


class Faults:
    """A process that uses a disk, and the fault that will strike it.

    Attributes:
        faults: Number of operations that failed since `arm`.
        to_delete: The folder that the fault `delete` deletes.
        deleted: Whether it did so since `arm`.
        dead: Whether the process is dead. Nothing that it does reaches the disk then.
    """

    def __init__(self, rng: random.Random, to_delete: Path) -> None:
        self.faults = 0
        self.to_delete = to_delete
        self.deleted = False
        self.dead = False
        self._rng = rng
        self._fuse: int | None = None
        self._fault = ""
        self._full_for = 0
        self._at = self._last = ""
        self._room = 0.0

    # --- what a history does to it ----------------------------------------------------------------------------------------

    def arm(self, fault: str, steps: int, at: str | None = None) -> None:
        """Make the operation that comes after `steps` others fail: `kill`, `power`, `full`, `error`, or `read` for one that reads.

        With `delete`, somebody deletes the folder `to_delete` before that operation.

        Args:
            fault: The fault.
            steps: Number of operations before it.
            at: The kind of operation at which it strikes then. Default: a random one of `STRIKES_AT`.
        """
        self.faults, self._fuse, self._fault, self.deleted = 0, steps, fault, False
        self._at = self._rng.choice(STRIKES_AT.get(fault, ("",))) if at is None else at

    def disarm(self) -> None:
        """No fault from here on; a disk that was full has room again."""
        self.faults, self._fuse, self._full_for = 0, None, 0

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Keep everything that is done in this context off the disk, such as the clean-up that a dead process would not have done."""
        before, self.dead = self.dead, True
        try:
            yield
        finally:
            self.dead = before

    def die(self) -> None:
        """The process is dead: nothing reaches the disk until `revive`."""
        self.dead = True

    def revive(self) -> None:
        self.dead = False

    # --- what the disk asks -----------------------------------------------------------------------------------------------

    def step(self, writes: bool, kind: str = "other") -> bool:
        """Count an operation; True if it must fail for lack of room, after a part of it.

        Args:
            writes: Whether it needs room.
            kind: `append`, `write`, `delete` or another one, at which a fault may wait to strike (`STRIKES_AT`). Default: another one.

        Raises:
            ProcessKilled: The process dies.
            PowerCut: The machine does.
            OSError: The operation fails.
        """
        if self._fuse is not None and self._fault != "read":
            self._fuse -= 1
            now = (kind, f"after {self._last}", "")
            if self._fuse < 0 and self._at in now:
                self._fuse = None
                self._blow()
        self._last = kind
        if self._full_for and writes:
            self._full_for -= 1
            self.faults += 1
            return True
        return False

    @property
    def fails_reading(self) -> bool:
        """Whether an operation that reads is still going to fail."""
        return self._fuse is not None and self._fault == "read"

    def step_of_reading(self, path: str) -> None:
        if self._fuse is None or self._fault != "read" or not os.path.exists(path):
            return
        self._fuse -= 1
        if self._fuse < 0:
            self._fuse = None
            self.faults += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def part(self, length: int) -> int:
        """The number of bytes of a write that are written before it ends, from none to all of them."""
        return self._rng.randint(0, max(length, 0))

    def room(self, length: int) -> int:
        """The number of bytes of a write that still fit on the full disk: a part of the first write, none of those that follow."""
        room, self._room = self._room, 0.0
        return int(room * length)

    def _blow(self) -> None:
        if self._fault == "full":
            # For a moment, or for as long as this start lasts.
            self._full_for = self._rng.choice((1, 2, 2, 3, 10, 10**9))
            self._room = self._rng.random()
            return
        if self._fault == "delete":
            self.deleted = self.to_delete.exists()
            if self.deleted:
                self.faults += 1
                _rmtree(self.to_delete)
            return
        self.faults += 1
        if self._fault == "error":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.dead = True
        raise ProcessKilled if self._fault == "kill" else PowerCut


_rmtree = shutil.rmtree
