"""Signals outside of the trials, a second Ctrl-C, and a Ray that does not start: one message, the right exit code, no traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
import ray

from winnow.search.cli.outcome import print_outcome
from winnow.search.cli.signals import sigterm_like_ctrl_c
from winnow.search.ray_backend import session
from winnow.search.ray_backend.session import ray_session
from winnow.search.ray_backend.tune import Outcome
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError


def test_sigterm_is_an_interruption():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), sigterm_like_ctrl_c():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


def test_only_the_main_thread_sets_it():
    found = []

    def look() -> None:
        with sigterm_like_ctrl_c():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_second_signal_waits_for_no_report(tmp_path, capsys):
    folder = RunFolder(tmp_path / "r")
    assert print_outcome(folder, Outcome(True, False, None, 2.0)) == 130
    with pytest.raises(SystemExit) as end:
        print_outcome(folder, Outcome(True, False, None, 2.0, at_once=True))
    assert end.value.code == 130
    assert capsys.readouterr().err.count(f"winnow resume {folder.path}") == 2


@pytest.fixture
def no_ray(monkeypatch):
    """A process without Ray, whatever runs in this one. What ends Ray would end that of the other tests."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(session, "_session", session._Session())  # it holds the lock of a session folder
    for name in ("watch", "dismiss", "sweep_sessions", "mark_session"):
        monkeypatch.setattr(session, name, lambda: None)


@pytest.mark.parametrize(
    ("raised", "expected", "words"),
    [
        (Exception("The current node timed out during startup."), InputError, "too busy.*nothing is lost.*timed out"),
        (SystemExit(15), KeyboardInterrupt, None),  # Ray's own way to take a SIGTERM
        (ZeroDivisionError("a bug"), ZeroDivisionError, "a bug"),
    ],
)
def test_a_ray_that_does_not_start(monkeypatch, no_ray, raised, expected, words):
    def init(**options: object) -> None:
        raise raised

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(expected, match=words), ray_session(num_cpus=1):
        raise AssertionError("started")


def test_a_ray_that_was_too_slow_is_started_again(monkeypatch, no_ray):
    """As in a new environment on a busy machine, where all of Ray's files are read for the first time."""
    starts = []

    def init(**options: object) -> None:
        starts.append(options)
        if len(starts) == 1:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", init)
    with ray_session(num_cpus=1):
        assert starts[0] == starts[1]
    assert len(starts) == 2


def test_ray_gives_sigterm_back(monkeypatch, no_ray):
    """`ray.init` puts a handler of its own in the place of ours."""

    def init(**options: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(KeyboardInterrupt), sigterm_like_ctrl_c(), ray_session(num_cpus=1):
        signal.raise_signal(signal.SIGTERM)


START = """
import os, signal, subprocess, sys, threading
from types import SimpleNamespace
from ray._private import services
from winnow.search.cli.signals import sigterm_like_ctrl_c
from winnow.search.ray_backend import session

seen = []
masked = "import signal; print(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))"

def init(**options):
    signal.signal(signal.SIGTERM, lambda *_: seen.append("the handler of Ray"))
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    server = services.ConsolePopen([sys.executable, "-c", masked], preexec_fn=lambda: None, stdout=subprocess.PIPE, text=True)
    seen.append("a server without SIGTERM: " + server.communicate()[0].strip())
    os.kill(os.getpid(), signal.SIGTERM)
    seen.append("connected")

ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: seen.append("shut down"))
session._import_ray = lambda: ray
session.watch = session.dismiss = session.sweep_sessions = lambda: None
try:
    with sigterm_like_ctrl_c(), session.ray_session(num_cpus=1):
        seen.append("the search goes on")
except KeyboardInterrupt:
    seen.append("interrupted")
seen.append(signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(seen)
"""


def test_sigterm_while_ray_starts_is_handled_after_it():
    """Ray's own handler could abort the process. Its threads must not take the signal, and its servers must."""
    ended = subprocess.run([sys.executable, "-c", START], capture_output=True, text=True)
    seen = ["a server without SIGTERM: False", "connected", "shut down", "interrupted", False]
    assert (ended.stdout.strip(), ended.stderr) == (str(seen), "")


@pytest.mark.slow
def test_the_next_ray_of_a_process_is_left_alone(tmp_path):
    """The watchdog of a Ray that was shut down works on for seconds; a notebook starts the next search meanwhile."""
    script = f"""
import os, subprocess, time
from pathlib import Path
from winnow.search.ray_backend.watchdog import dismiss, watch
folder = Path({str(tmp_path)!r}) / f"session_now_{{os.getpid()}}"
folder.mkdir()
def server():
    return subprocess.Popen(["sleep", "60"], stdout=(folder / "log").open("w"))
watch()
first = server()
dismiss()
time.sleep(0.1)
second = server()
print(first.wait(30), second.poll())
time.sleep(3)
print(second.poll())
second.kill()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["-9", "None", "None"], done.stderr
