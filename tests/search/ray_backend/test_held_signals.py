"""Signals that arrive while Ray ends are handled after it, so that the exit code is that of an interruption."""

from __future__ import annotations

import signal

import pytest

from winnow.search.ray_backend.held_signals import held_signals

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers():
    """SIGTERM raises, as under `winnow`; what was there before is put back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_handled_afterwards(number):
    done = []

    def shut_down():
        with held_signals():
            signal.raise_signal(number)
            done.append("the shutdown is whole")

    with pytest.raises(KeyboardInterrupt):
        shut_down()
    assert done
    assert [signal.getsignal(each) for each in SIGNALS] == [signal.default_int_handler] * 2


def test_a_second_signal_interrupts_a_shutdown_that_hangs():
    done = []

    def hang():
        with held_signals():
            signal.raise_signal(signal.SIGINT)
            done.append("still held")
            signal.raise_signal(signal.SIGINT)
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        hang()
    assert done == ["still held"]
    assert [signal.getsignal(each) for each in SIGNALS] == [signal.default_int_handler] * 2


def test_without_a_signal_the_handler_is_afterwards_as_before():
    with held_signals():
        assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
