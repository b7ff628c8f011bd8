"""A Ray of our own starts wherever it can, and says in one line where it cannot."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from winnow.search.ray_backend import local_start, session
from winnow.search.ray_backend.backend import backend
from winnow.search.ray_backend.local_start import LONGEST_TEMPORARY, name_home, open_to_others, prepare_local_start
from winnow.search.ray_backend.tune import StopController
from winnow.search.resources.plan import DeviceOptions
from winnow.spaces.errors import InputError


@pytest.fixture(autouse=True)
def _environment(monkeypatch, tmp_path):
    for name in ("RAY_TMPDIR", "TMPDIR", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "remembered, so that it is restored")
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def test_ray_has_a_private_folder(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/tmp")
    prepare_local_start()
    private = Path(os.environ["RAY_TMPDIR"])
    assert private == Path(f"/tmp/winnow-{os.getuid()}")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert "RAY_AUTH_TOKEN" not in os.environ
    prepare_local_start()  # as another search of this process does
    assert os.environ["RAY_TMPDIR"] == str(private)


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="w-") as folder:
        yield Path(folder)


def test_the_private_folder_is_in_the_temporary_folder_of_the_user(short, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(short))
    prepare_local_start()
    assert Path(os.environ["RAY_TMPDIR"]).parent == short


def test_a_link_in_place_of_the_private_folder_is_not_followed(short, monkeypatch):
    theirs = short / "theirs"
    theirs.mkdir(mode=0o755)
    (short / f"winnow-{os.getuid()}").symlink_to(theirs, target_is_directory=True)
    monkeypatch.setenv("TMPDIR", str(short))
    prepare_local_start()
    assert os.environ["RAY_TMPDIR"] == f"/tmp/winnow-{os.getuid()}"
    assert stat.S_IMODE(theirs.stat().st_mode) == 0o755


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


def test_a_folder_that_does_not_exist_is_made_for_this_user_alone(tmp_path, monkeypatch):
    named = Path(f"/tmp/winnow-test-{os.getpid()}")
    monkeypatch.setenv("RAY_TMPDIR", str(named))
    try:
        prepare_local_start()
        assert stat.S_IMODE(named.stat().st_mode) == 0o700
        assert open_to_others() is None
    finally:
        named.rmdir()


@pytest.mark.parametrize(
    ("mode", "told"), [(0o700, False), (0o750, True), (0o755, True), (0o777, True), (0o1777, False)]
)
def test_a_folder_that_others_may_enter_is_told(tmp_path, monkeypatch, mode, told):
    named = tmp_path / "mine and theirs"
    named.mkdir()
    named.chmod(mode)
    monkeypatch.setenv("RAY_TMPDIR", str(named))
    line = open_to_others()
    assert (line is not None) == told
    if line is not None:
        assert f"(mode {mode:04o})" in line
        subprocess.run(line.split(": ")[-1], shell=True, check=True)  # what it says can be pasted
        assert open_to_others() is None


def test_the_line_about_an_open_folder_is_said_before_ray_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    tmp_path.chmod(0o755)
    monkeypatch.setattr(session, "import_meanwhile", lambda _: None)
    monkeypatch.setattr(session, "is_running", lambda: False)
    monkeypatch.setattr(
        session, "ray_session", lambda *_, **__: (_ for _ in ()).throw(InputError("no Ray in this test"))
    )
    lines: list[str] = []
    with (
        pytest.raises(InputError, match="no Ray"),
        backend(lines.append, DeviceOptions(device="cpu"), None, [], 1, [], ""),
    ):
        pass
    assert [line for line in lines if "RAY_TMPDIR" in line] == [open_to_others()]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    named = tmp_path / "theirs"
    named.mkdir(mode=0o777)
    os.chown(named, 12345, -1)
    monkeypatch.setenv("RAY_TMPDIR", str(named))
    monkeypatch.setattr(local_start, "LONGEST_TEMPORARY", 1000)
    with pytest.raises(InputError, match=r"belongs to another user \(id 12345\)"):
        prepare_local_start()


def test_the_private_folder_is_private_again(tmp_path, monkeypatch):
    private = Path(f"/tmp/winnow-{os.getuid()}")
    private.mkdir(exist_ok=True)
    private.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("a" * LONGEST_TEMPORARY)))
    prepare_local_start()
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.parametrize("home", ["/proc/nonexistent", None])
def test_without_a_home_the_token_stays_in_the_environment(home, monkeypatch):
    if home is None:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    else:
        monkeypatch.setenv("HOME", home)
    prepare_local_start()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_user_without_a_home_gets_the_name_of_one(monkeypatch):
    home = os.environ["HOME"]
    name_home()
    assert os.environ["HOME"] == home
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    name_home()
    assert not Path("~/ray_results").expanduser().exists()


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
