"""Processes whose state a training may change for the next one. The code that restores the state is the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn
from unittest.mock import patch

from winnow.search.training import process_state
from winnow.search.training.process_state import Setting

RESTORABLE, LASTING, DEVICE = "restorable", "lasting", "device"
"""Names of a part of the state that can be restored after a training, of one that cannot, and of the device, which may break."""
CLEAN = {RESTORABLE: "as it was", LASTING: "as it was"}


class Process:
    """A process that trains one trial after another."""

    def __init__(self) -> None:
        self.state = dict(CLEAN)
        self.spoiled: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make this the process in which code runs within this context."""
        global _current
        before, _current = _current, self
        spoiled, process_state._spoiled = process_state._spoiled, self.spoiled
        try:
            yield
        finally:
            _current, process_state._spoiled = before, spoiled


_current = Process()


def change_state(name: str) -> None:
    """Change a part of the state of the running process, as a model may do."""
    _current.state[name] = "changed"


def device_breaks(training: str) -> bool:
    """Return whether the device breaks now, which happens once in each training that calls this."""
    if training in _broke_in:
        return False
    _broke_in.add(training)
    return True


_broke_in: set[str] = set()


def is_clean() -> bool:
    """Return whether the running process has the state with which it began."""
    return _current.state == CLEAN


@contextmanager
def simulated_processes() -> Iterator[None]:
    """Replace the settings of the real process by those of the running simulated one within this context, with whole devices."""
    _broke_in.clear()
    settings = {
        RESTORABLE: Setting(lambda: _current.state[RESTORABLE], _restore),
        LASTING: Setting(lambda: _current.state[LASTING], _refuse),
    }
    with patch.object(process_state, "SETTINGS", settings):
        yield


def _restore(value: str) -> None:
    _current.state[RESTORABLE] = value


def _refuse(value: str) -> NoReturn:
    raise ValueError(f"only the main thread may set {value!r}")
