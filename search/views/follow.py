"""Shows a run repeatedly while another process works on it (`winnow show --follow`)."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live
from rich.text import Text

from winnow.search.views.console import VisibleConsole

SECONDS_BETWEEN = 2.0
PATIENCE = 3
"""Number of consecutive checks that must find the lock free before the driver counts as gone: `winnow run` releases it between search and retraining."""


def follow(path: Path, console: Console, show: Callable[[Console], None], seconds: float = SECONDS_BETWEEN) -> None:
    """Show a run until its driver ends. A terminal is redrawn; other output is printed only after a change.

    Args:
        path: The run folder.
        console: Where it is shown.
        show: Prints the run to the console that it is given.
        seconds: Seconds between two updates. Default: 2.
    """
    if not console.is_terminal:
        _follow_plainly(path, console, show, seconds)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for _ in _updates(path, seconds):
            live.update(Text.from_ansi(_drawn(console, show)), refresh=True)
    console.print("No process is working on this run.")


def _follow_plainly(path: Path, console: Console, show: Callable[[Console], None], seconds: float) -> None:
    before = None
    for _ in _updates(path, seconds):
        text = _drawn(console, show)
        if text != before:
            console.print(text, end="", markup=False, soft_wrap=True)
            before = text


def _updates(path: Path, seconds: float) -> Iterator[None]:
    """Yield whenever the run is to be shown, until the driver has gone; yield only once if there was none."""
    free = 0 if in_use(path) else PATIENCE
    while True:
        yield
        free = 0 if in_use(path) else free + 1
        if free >= PATIENCE:
            return
        time.sleep(seconds)


def _drawn(console: Console, show: Callable[[Console], None]) -> str:
    buffer = VisibleConsole(
        file=io.StringIO(),
        width=console.width,
        force_terminal=console.is_terminal,
        color_system="truecolor" if console.is_terminal else None,
        highlight=False,
    )
    show(buffer)
    assert isinstance(buffer.file, io.StringIO)
    return buffer.file.getvalue()


def in_use(path: Path) -> bool:
    """Return whether a driver holds the lock of the run. To find out, the lock is acquired and released at once."""
    file = path / ".lock"
    if not file.exists():
        return False
    lock = FileLock(file)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
