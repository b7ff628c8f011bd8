"""The clock of a run: its time never goes back, and differences are seconds that really passed.

The wall clock is read once per process; later times are measured with a clock that is never adjusted. If the wall clock was set
back between two starts, the second one begins at the time of the run's last record (`not_before`).
"""

from __future__ import annotations

import time


def now() -> float:
    """Return the time in Unix seconds, to the millisecond."""
    return round(max(_OFFSET + steady(), _earliest), 3)


def not_before(seconds: float) -> None:
    """Make `now` return no time earlier than this."""
    global _earliest
    _earliest = max(_earliest, seconds)


def steady() -> float:
    """Return seconds of a clock that is never adjusted; only differences are meaningful."""
    # Where the system has one, a clock that also runs while the machine sleeps.
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


_OFFSET = time.time() - steady()
_earliest = 0.0
