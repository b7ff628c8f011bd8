"""Ends every process of Ray when the driver ends, however that happens.

When a driver is killed, the kernel kills Ray's servers with it, workers follow within seconds, but Ray's two agents first try
for a minute to report the death to a server that is dead (`publish_error` retries 60 times; Ray 2.60). So a process of our own waits
for the driver's end, which it sees as the end of its standard input, and kills what still has a file of this Ray's session open.
(Their environments do not distinguish them: Ray writes the title of a process over it.) It is this file, run as a script: the
standard library alone. Linux only, since it reads /proc; elsewhere the agents take their minute.
"""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 1.0  # for those that end in order, once the driver has gone
DISMISSED = b"dismissed"
CHECKS = 20  # ten a second: processes that were being started while the driver died appear late


def watch() -> None:
    """Start the watchdog; to be called before Ray. All processes of its session then end with this process, or on `dismiss`."""
    global _watchdog
    if Path("/proc/self/fd").exists():
        _watchdog = subprocess.Popen(
            [sys.executable, "-ISE", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # a signal to the driver's process group is not for it
        )


def dismiss() -> None:
    """Kill the processes that have not ended yet. Called after `ray.shutdown`."""
    global _watchdog
    if _watchdog is not None and _watchdog.stdin is not None:
        with suppress(BrokenPipeError), _watchdog.stdin:
            _watchdog.stdin.write(DISMISSED)
        _watchdog = None  # it ends within seconds, so nothing waits for it


_watchdog: subprocess.Popen[bytes] | None = None


def _wait_and_kill(driver: int) -> None:
    session = re.compile(rf"/session_[^/]*_{driver}/")  # Ray names the folder of a session by its driver
    born = _start_time(os.getpid())
    # A driver that continues may start another Ray at once: processes that start from now on belong to it.
    last = _now() if sys.stdin.buffer.read() == DISMISSED else math.inf
    time.sleep(GRACE_SECONDS)
    for _ in range(CHECKS):
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            # Processes come and go while we look, and those of other users cannot be read.
            with suppress(OSError):
                # An older process belongs to another driver, which had the same id.
                if pid != driver and born <= _start_time(pid) <= last and _has_open(pid, session):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _now() -> float:
    return float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK")


def _start_time(pid: int) -> int:
    """Return when a process started, in ticks since the machine was started, as `_now`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _has_open(pid: int, path: re.Pattern[str]) -> bool:
    return any(path.search(os.readlink(f"/proc/{pid}/fd/{fd}")) for fd in os.listdir(f"/proc/{pid}/fd"))


if __name__ == "__main__":
    _wait_and_kill(int(sys.argv[1]))
