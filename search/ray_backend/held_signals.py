"""Holds signals back while Ray starts and while it ends, since they could abort the process there."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
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


@contextmanager
def held_signals() -> Iterator[None]:
    """Call `ray.shutdown` in this context. A Ctrl-C or SIGTERM that arrives meanwhile is handled after it.

    A shutdown that is interrupted leaves Ray's C++ part without its server, and it then ends the process with exit code 1. Further
    signals interrupt at once, in case the shutdown hangs. Only the main thread handles signals; in other threads, this has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def hold(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)
        if len(arrived) > 1:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if arrived:
        signal.raise_signal(arrived[0])
