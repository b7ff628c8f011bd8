"""Holds SIGTERM back while Ray's handlers are in place, which would end the process without cleaning up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

HELD = {signal.SIGTERM}


@contextmanager
def held_sigterm() -> Iterator[None]:
    """Call `ray.init` in this context. A SIGTERM that arrives while it connects is handled after it, by the handler from before.

    Ray (2.60) replaces the handler, in Python at the beginning and in C++ when the process connects; the one in C++ can abort the
    process. The signal is not held back before Ray connects, since the servers that Ray starts then would inherit that.
    Only the main thread handles signals; in other threads, this has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import ray._private.worker as worker

    before = signal.getsignal(signal.SIGTERM)
    connect = worker.connect

    def connect_undisturbed(*arguments: Any, **options: Any) -> Any:
        signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
        return connect(*arguments, **options)

    try:
        with patch.object(worker, "connect", connect_undisturbed):
            yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
