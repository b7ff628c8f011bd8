"""A run shown again and again while another process works on it."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live
from rich.text import Text

SECONDS_BETWEEN = 2.0
PATIENCE = (
    3  # looks at a free lock before a driver counts as gone: `winnow run` lets it go between search and retraining
)


def follow(path: Path, console: Console, show: Callable[[Console], None], seconds: float = SECONDS_BETWEEN) -> None:
    """In a terminal the picture is redrawn; elsewhere it is printed when something changed. Ends with the run's driver."""
    if not console.is_terminal:
        _follow_plainly(path, console, show, seconds)
        return
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for _ in _looks(path, seconds):
            live.update(Text.from_ansi(_drawn(console, show)), refresh=True)
    console.print("Nobody works on this run now.")


def _follow_plainly(path: Path, console: Console, show: Callable[[Console], None], seconds: float) -> None:
    before = None
    for _ in _looks(path, seconds):
        text = _drawn(console, show)
        if text != before:
            console.print(text, end="", markup=False, soft_wrap=True)
            before = text


def _looks(path: Path, seconds: float) -> Iterator[None]:
    """One look after the other, until the driver that was there has gone; a single one where there was none."""
    free = 0 if in_use(path) else PATIENCE
    while True:
        yield
        free = 0 if in_use(path) else free + 1
        if free >= PATIENCE:
            return
        time.sleep(seconds)


def _drawn(console: Console, show: Callable[[Console], None]) -> str:
    paper = Console(
        file=io.StringIO(),
        width=console.width,
        force_terminal=console.is_terminal,
        color_system="truecolor" if console.is_terminal else None,
        highlight=False,
    )
    show(paper)
    assert isinstance(paper.file, io.StringIO)
    return paper.file.getvalue()


def in_use(path: Path) -> bool:
    """Whether a driver holds the run's lock; a moment's try, given back at once."""
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
