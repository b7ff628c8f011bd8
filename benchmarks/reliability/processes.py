"""Processes of one driver, found without touching anybody else's: by their parents, or by the process session of the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}


def start(command: list[str], folder: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A driver in a session of its own, so that its workers can be distinguished from those of other searches."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


def members(session: int) -> list[int]:
    """The live processes in the session of a driver that `start` started, without zombies."""
    return [pid for pid, (state, _, its_session) in _processes().items() if its_session == session and state != "Z"]


def workers(driver: int) -> list[int]:
    """The Ray workers of this driver that train: grandchildren of it, children of its raylet."""
    parents = {pid: parent for pid, (_, parent, _) in _processes().items()}
    return [pid for pid, parent in parents.items() if parents.get(parent) == driver and _is_trainable(pid)]


def _is_trainable(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::ImplicitFunc")
    except OSError:
        return False


def _processes() -> dict[int, tuple[str, int, int]]:
    """{process id: (state, parent, session)}"""
    found = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            state, parent, _, session = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:4]
            found[int(entry)] = (state, int(parent), int(session))
    return found


def seconds_until_gone(session: int, limit: float = 90.0) -> float:
    """Seconds until no process of a dead driver is left; processes that are left at the limit are killed."""
    began = time.monotonic()
    while (left := members(session)) and time.monotonic() - began < limit:
        time.sleep(0.1)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return round(time.monotonic() - began, 1)
