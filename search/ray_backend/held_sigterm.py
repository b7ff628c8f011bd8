"""Holds SIGTERM back while Ray starts, since Ray's own handler could abort the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


@contextmanager
def held_sigterm() -> Iterator[None]:
    """Call `ray.init` in this context. A SIGTERM that arrives meanwhile is handled after it, by the handler from before.

    Ray (2.60) replaces the handler, in Python at the beginning and in C++ when the process connects; the one in C++ can abort the
    process. The threads that Ray starts do not take the signal either, but Ray's servers do. If there was no handler before, Ray's
    stays. Only the main thread handles signals; in other threads, this has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import ray._private.services as services

    before = signal.getsignal(signal.SIGTERM)
    popen: Any = services.ConsolePopen
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def start_server(*arguments: Any, preexec_fn: Callable[[], None], **options: Any) -> Any:
        def prepare() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            preexec_fn()

        return popen(*arguments, preexec_fn=prepare, **options)

    try:
        with patch.object(services, "ConsolePopen", start_server):
            yield
    finally:
        if callable(before):
            signal.signal(signal.SIGTERM, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
