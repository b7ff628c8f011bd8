"""Recognises that the kernel killed a process because memory ran out, by the kernel's own counter of such kills.

A process that is killed leaves no error behind. While it lives, it notes the counter with each heartbeat; if the counter has risen
after its death, the kernel killed it, or another process in the same seconds. Linux only: elsewhere nothing is noted.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path("/")
COUNTERS = (("0", "", "sys/fs/cgroup", "memory.events"), ("", "memory", "sys/fs/cgroup/memory", "memory.oom_control"))
"""Where cgroups count: number and controller in `/proc/self/cgroup`, folder, and file. First version 2, then version 1."""
MACHINE = Path("proc/vmstat")
"""The counter of the whole machine."""
LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Files beside the counter with the limit in bytes, of both versions of cgroups."""


def note_counter() -> str:
    """Return a note of the counter for this process, its value, and the memory that this process uses; empty if there is none."""
    file = _counter()
    kills = _kills(file) if file else None
    if kills is None:
        return ""
    return f"{kills} {_used()} {file}"


def killed_since(note: str) -> str | None:
    """Return what is known about a kill by the kernel since a note was written on this machine; None if there was none.

    Args:
        note: Result of `note_counter` in the process that died.
    """
    try:
        kills, used, file = note.split(" ", 2)
        before, in_use = int(kills), int(used)
    except ValueError:  # empty, or incomplete since the process was killed while it wrote
        return None
    now = _kills(Path(file))
    if now is None or now <= before:
        return None
    return f"it used {in_use / 1e9:.2f} GB a little earlier, and the limit for all processes is {_limit(Path(file)) / 1e9:.2f} GB"


def _counter() -> Path | None:
    """Return the file that counts for the group of this process, or for the whole machine."""
    try:
        lines = (ROOT / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for version, controller, folder, name in COUNTERS:
        for line in lines:
            number, controllers, path = line.split(":", 2)
            if number == version or controller in controllers.split(","):
                top = ROOT / folder
                place = top / path.lstrip("/")
                # In a container the folder may have another name than in `path`, or be the top.
                for parent in (place, *place.parents):
                    if _kills(parent / name) is not None:
                        return parent / name
                    if parent == top:
                        break
    return ROOT / MACHINE if _kills(ROOT / MACHINE) is not None else None


def _kills(counter: Path) -> int | None:
    """Return the value of a counter; None if it cannot be read."""
    try:
        fields = dict(line.split(None, 1) for line in counter.read_text().splitlines())
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def _used() -> int:
    """Return the main memory that this process uses, in bytes."""
    try:
        pages = (ROOT / "proc/self/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def _limit(counter: Path) -> int:
    """Return the smallest limit of memory that applies beside or above a counter, in bytes; the memory of the machine if there is none."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in counter.parents:
        for name in LIMITS:
            try:
                found.append(int((folder / name).read_text()))
            except (OSError, ValueError):  # "max": none
                continue
    return min(found)
