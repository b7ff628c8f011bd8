"""How long a training has given no sign of life, and for how long that is allowed.

A sign of life is a report, or the heartbeat of the training loop (`winnow.search.training.heartbeat`), so a long epoch is no silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

from winnow.search.storage import remote as storage
from winnow.search.training.heartbeat import is_training

EPOCHS_OF_SILENCE = 20
"""The default limit is this many of the longest epochs so far."""
SHORTEST_DEFAULT = 300.0
"""Seconds. No default limit is shorter."""
STARTING = 300.0
"""Seconds that every worker has at least to import, read and build before its first batch."""
NOTHING_MEASURED = 1800.0
"""Seconds of the default limit before the first epoch is measured."""


def limit(trial_timeout: float | None, longest_epoch: float | None) -> float:
    """Return the seconds of silence after which a training hangs.

    Args:
        trial_timeout: `search.trial_timeout` in seconds; None: the default.
        longest_epoch: Seconds of the longest epoch so far; None: none is known.
    """
    if trial_timeout is not None:
        return trial_timeout
    if longest_epoch is None:
        return NOTHING_MEASURED
    return max(SHORTEST_DEFAULT, EPOCHS_OF_SILENCE * longest_epoch)


def hung(seconds: float, allowed: float) -> str:
    """The message about a training that was silent for longer than allowed."""
    return f"no sign of life for {seconds:.0f} s (the limit is {allowed:.0f} s, see --trial-timeout); its worker was killed"


class Silence:
    """The signs of life of one training.

    Attributes:
        beat: The content of its heartbeat when that was last read; None: it has none yet.
    """

    def __init__(self, heartbeat: str, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait for the first sign. A file of an earlier process, which was killed, is deleted.

        Args:
            heartbeat: Path or URI of the file that the training rewrites.
            now: A clock in seconds.
        """
        self.beat: bytes | None = None
        self._heartbeat = heartbeat
        self._now = now
        self._seen = self._asked = now()
        with suppress(OSError):
            storage.delete(heartbeat)

    def note_report(self) -> None:
        """Take note of a report. It may be of an epoch that an earlier process trained, so it does not end the start."""
        self._seen = self._now()

    def allowed(self, limit: float) -> float:
        """Seconds for which this training may be silent now: the limit, or more while its worker starts.

        Args:
            limit: Seconds for which it may be silent after its first batch.
        """
        starts = not self.beat or not is_training(self.beat)
        return max(limit, STARTING) if starts else limit

    def seconds(self, interval: float) -> float:
        """Seconds since the last sign. The heartbeat is read once in `interval` seconds of silence, since that may be a request."""
        now = self._now()
        if now - max(self._seen, self._asked) > interval:
            self._asked = now
            beat = self._read()
            if beat is not None and beat != self.beat:
                self.beat, self._seen = beat, now
        return now - self._seen

    def _read(self) -> bytes | None:
        try:
            return storage.read(self._heartbeat)
        except OSError:
            return None
