"""Measures how long a training has given no sign of life, and decides for how long that is allowed.

A sign of life is a report, or a heartbeat of the training loop (`winnow.search.training.heartbeat`). A long epoch is therefore not
mistaken for a hang.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress

from winnow.search.storage import remote as storage
from winnow.search.training.heartbeat import is_training, seconds_between, write_beat

EPOCHS_OF_SILENCE = 20
"""The default limit, as a multiple of the longest epoch so far."""
SHORTEST_DEFAULT = 300.0
"""Lower bound on the default limit, in seconds."""
STARTING = 300.0
"""Time that every worker has at least before its first batch, to import, read and build; in seconds."""
MISSED_BEATS = 2
"""A training that beats in time is never taken for a hang, however short the limit is: it may miss this many heartbeats."""
NOTHING_MEASURED = 1800.0
"""The default limit before the first epoch has been measured, in seconds."""
LONGEST_STEP = 10.0
"""Two looks further apart than this many seconds mean that this process stood still, as in a suspended job, whose trainings did too."""
DEFAULT = (
    f"{EPOCHS_OF_SILENCE} times the longest epoch, at least {SHORTEST_DEFAULT:.0f} s, and {NOTHING_MEASURED:.0f} s "
    "before the first epoch has ended"
)
"""The default limit in words."""


def limit(trial_timeout: float | None, longest_epoch: float | None) -> float:
    """Return the seconds of silence after which a training counts as hanging.

    Args:
        trial_timeout: `search.trial_timeout` in seconds; None for the default.
        longest_epoch: Duration of the longest epoch so far, in seconds; None if none has been measured.
    """
    if trial_timeout is not None:
        return trial_timeout
    if longest_epoch is None:
        return NOTHING_MEASURED
    return max(SHORTEST_DEFAULT, EPOCHS_OF_SILENCE * longest_epoch)


def seconds_between_looks(limit: float) -> float:
    """Return the seconds between two reads of a heartbeat, given the limit. A read may be a network request."""
    return min(limit / 4, 30.0)


def hung(seconds: float, allowed: float, limit: float) -> str:
    """Return the message about a training that was silent for longer than allowed.

    Args:
        seconds: Seconds without a sign of life.
        allowed: The limit that applied, in seconds.
        limit: The limit after the first batch, in seconds.
    """
    why = "until the first batch" if allowed > limit else f"by --trial-timeout, which is by default {DEFAULT}"
    return f"no sign of life for {seconds:.0f} s (the limit is {allowed:.0f} s {why}); its worker was killed"


class Stopwatch:
    """Measures how long something has been waited for, without the time in which this process was suspended.

    Only the first pause is left out, so that a hang is also found by a process that always looks rarely.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Start to measure.

        Args:
            now: A clock in seconds.
        """
        self._now = now
        self.restart()

    def restart(self) -> None:
        """Start from 0 again."""
        self._since = self._looked = self._now()
        self._paused = False

    def seconds(self) -> float:
        """Return the seconds since the start. Must be called more often than every `LONGEST_STEP` seconds."""
        now = self._now()
        pause, self._looked = now - self._looked, now
        if pause > LONGEST_STEP and not self._paused:
            self._paused = True
            self._since += pause
        return now - self._since


class Silence:
    """The signs of life of one training.

    Attributes:
        beat: The content of its heartbeat file when it was last read; None if there is no heartbeat yet.
    """

    def __init__(self, heartbeat: str, now: Callable[[], float] = time.monotonic) -> None:
        """Begin to wait for the first sign of life. The file of an earlier process that was killed is deleted.

        Args:
            heartbeat: Path or URI of the file that the training rewrites.
            now: A clock in seconds.
        """
        self.beat: bytes | None = None
        self._heartbeat = heartbeat
        self._now = now
        self._asked = now()
        self._quiet = Stopwatch(now)
        with suppress(OSError):
            storage.delete(heartbeat)

    def last_beat(self) -> bytes | None:
        """Return the heartbeat that a process left behind when it died; None if it ended by an error or had none."""
        try:
            return storage.read(self._heartbeat)
        except OSError:
            return None

    def note_report(self) -> None:
        """Note a report as a sign of life. It may be about an epoch of an earlier process, so the worker may still be starting."""
        self._quiet.restart()

    def allowed(self, limit: float) -> float:
        """Return the seconds for which this training may be silent now: the limit, or more while its worker starts.

        Args:
            limit: Seconds for which it may be silent after its first batch.
        """
        starts = not self.beat or not is_training(self.beat)
        return max(limit, STARTING) if starts else limit

    def overdue(self, limit: float) -> str | None:
        """Return the message about this training if it has been silent for too long; None if it has not.

        Args:
            limit: Seconds for which it may be silent after its first batch.

        Raises:
            OSError: The heartbeat cannot be written from here. Then a living training cannot give a sign either.
        """
        limit = max(limit, MISSED_BEATS * seconds_between(self._heartbeat))
        allowed = self.allowed(limit)
        if not self.is_silent(allowed, seconds_between_looks(limit)):
            return None
        write_beat(self._heartbeat, self.beat or b"")
        return hung(self.seconds(math.inf), allowed, limit)

    def is_silent(self, allowed: float, interval: float) -> bool:
        """Return whether the last sign of life is longer ago than allowed. That is decided by a fresh look.

        Args:
            allowed: Seconds for which the training may be silent.
            interval: Minimum number of seconds between two reads of the heartbeat while it is not silent for longer.
        """
        return self.seconds(interval) > allowed and self.seconds(0.0) > allowed

    def seconds(self, interval: float) -> float:
        """Return the seconds since the last sign of life, without those in which this process was suspended.

        Args:
            interval: Minimum number of seconds between two reads of the heartbeat.
        """
        now, seconds = self._now(), self._quiet.seconds()
        if min(seconds, now - self._asked) > interval:
            self._asked = now
            beat = self.last_beat()
            if beat is not None and beat != self.beat:
                self.beat, seconds = beat, 0.0
                self._quiet.restart()
        return seconds
