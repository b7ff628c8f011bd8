"""A Ray of our own starts wherever it can, and says in one line where it cannot."""

from __future__ import annotations

import os
import signal
import stat
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from winnow.search.ray_backend.local_start import LONGEST_TEMPORARY, prepare_local_start
from winnow.search.ray_backend.tune import StopController
from winnow.spaces.errors import InputError


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "remembered, so that it is restored")
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_nothing_is_set_where_all_is_well(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    prepare_local_start()
    assert "RAY_TMPDIR" not in os.environ
    assert "RAY_AUTH_TOKEN" not in os.environ


def test_a_long_temporary_folder_is_replaced_by_a_private_one(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("a" * LONGEST_TEMPORARY)))
    prepare_local_start()
    private = Path(os.environ["RAY_TMPDIR"])
    assert len(str(private)) <= LONGEST_TEMPORARY
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_a_folder_of_rays_own_that_is_too_long_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / ("a" * LONGEST_TEMPORARY)))
    with pytest.raises(InputError, match=rf"^RAY_TMPDIR=\S+: is longer than the {LONGEST_TEMPORARY} characters"):
        prepare_local_start()


def test_a_folder_that_cannot_be_written_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/proc/1")
    with pytest.raises(InputError, match=r"^RAY_TMPDIR=/proc/1: cannot be written \("):
        prepare_local_start()


@pytest.mark.parametrize("home", ["/proc/nonexistent", None])
def test_without_a_home_the_token_stays_in_the_environment(home, monkeypatch):
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", home)
    prepare_local_start()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_search_in_another_thread_leaves_signals_alone():
    ledger: Any = SimpleNamespace()
    watch: Any = None  # signals do not ask it
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def search() -> None:
        with StopController(ledger, print, watch).on_signals():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=search)
    thread.start()
    thread.join()
    assert inside == [before]
