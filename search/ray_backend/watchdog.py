"""Ends every process of Ray when the driver ends, however that happens.

When a driver is killed, the kernel also kills Ray's servers, and workers end within seconds. But Ray's two agents first try for a
minute to report the death to a server that is dead (`publish_error` retries 60 times; Ray 2.60). Winnow therefore runs a watchdog
process that waits for the end of the driver, which closes the watchdog's standard input. It then kills all processes that still have
a file of this Ray session open. (Environment variables cannot identify them: Ray writes the process title over them.) A process that
has the session's lock open is the next driver, which deletes the folder.

The watchdog is this file, run as a script, and uses only the standard library. It works only on Linux, since it reads /proc;
elsewhere the agents take their minute.
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

GRACE_SECONDS = 1.0  # time for processes to end normally after the driver has ended
DISMISSED = b"dismissed"
LOCK = ".winnow.lock"
"""File in the folder of a session that only Winnow's drivers open (`winnow.search.ray_backend.session_folders`)."""
CHECKS = 20  # ten per second: processes that were being started when the driver died appear late


def watch() -> None:
    """Start the watchdog. Must be called before Ray starts. All processes of Ray's session then end with this process or on `dismiss`."""
    global _watchdog
    if Path("/proc/self/fd").exists():
        _watchdog = subprocess.Popen(
            [sys.executable, "-ISE", __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that signals to the driver's process group do not reach it
        )


def dismiss() -> None:
    """Let the watchdog kill the processes that have not ended yet. Must be called after `ray.shutdown`."""
    global _watchdog
    if _watchdog is not None and _watchdog.stdin is not None:
        with suppress(BrokenPipeError), _watchdog.stdin:
            _watchdog.stdin.write(DISMISSED)
        _watchdog = None  # it ends within seconds, so there is no need to wait for it


_watchdog: subprocess.Popen[bytes] | None = None


def _wait_and_kill(driver: int) -> None:
    session = re.compile(rf"/session_[^/]*_{driver}/")  # Ray names the folder of a session after the driver's process
    born = _start_time(os.getpid())
    # If the driver is still alive, it may start another Ray at once. Processes that start from now on belong to that one.
    last = _now() if sys.stdin.buffer.read() == DISMISSED else math.inf
    time.sleep(GRACE_SECONDS)
    for _ in range(CHECKS):
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            # Processes start and end during the check, and those of other users cannot be read.
            with suppress(OSError):
                # An older process belongs to another driver that had the same id.
                if pid != driver and born <= _start_time(pid) <= last and _is_rays(pid, session):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _now() -> float:
    return float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK")


def _start_time(pid: int) -> int:
    """Return when a process started, in clock ticks since the machine booted, the unit of `_now`."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _is_rays(pid: int, session: re.Pattern[str]) -> bool:
    """Return whether a process has files of the session open, and is not a driver that deletes them."""
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    opened = [link for link in links if session.search(link)]
    return bool(opened) and not any(
        f"/{LOCK}" in link for link in opened
    )  # a deleted file has further text after its name


if __name__ == "__main__":
    _wait_and_kill(int(sys.argv[1]))
