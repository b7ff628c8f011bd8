"""The folders that Ray keeps for ever go at the next start, if they are those of our own drivers that have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

from winnow.search.ray_backend import watchdog
from winnow.search.ray_backend.session_folders import mark_session, sweep_sessions
from winnow.search.ray_backend.watchdog import LOCK

DRIVER = """
import os, time
from pathlib import Path
from winnow.search.ray_backend.session_folders import mark_session
folder = Path(os.environ["RAY_TMPDIR"], "ray", f"session_2026-11-29_09-00-00_000000_{os.getpid()}")
(folder / "logs").mkdir(parents=True)
lock = mark_session()
print(folder, flush=True)
time.sleep(600)
"""


def test_only_what_a_driver_of_ours_left_goes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    others = tmp_path / "ray" / "session_2026-11-29_08-00-00_000000_1"
    (others / "logs").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (tmp_path / "ray" / "session_2026-11-29_08-00-00_000000_2").symlink_to(elsewhere)
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            left = Path(driver.stdout.readline().strip())
            sweep_sessions()
            assert left.is_dir()  # its driver lives
        finally:
            driver.send_signal(signal.SIGKILL)
    sweep_sessions()
    assert not left.exists()
    assert others.is_dir()
    assert (elsewhere / LOCK).exists()


def test_what_a_driver_left_that_was_killed_while_ray_started_goes_from_winnows_own_folder(
    tmp_path: Path, monkeypatch
) -> None:
    """It had no time to make its lock file. In other folders such a session may be that of another program."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own, others = tmp_path / f"winnow-{os.getuid()}", tmp_path / "rays"
    for root in (own, others):
        for process_id in (ended.pid, os.getpid()):
            (root / "ray" / f"session_2026-11-29_08-00-00_000000_{process_id}" / "logs").mkdir(parents=True)
    for root in (own, others):
        monkeypatch.setenv("RAY_TMPDIR", str(root))
        sweep_sessions()
        assert (
            len(list((root / "ray").iterdir())) == 2
        )  # new ones may be those of another container, whose processes are not seen
        for folder in (root / "ray").iterdir():
            os.utime(folder, (0, 0))
        sweep_sessions()
    assert [folder.name.rpartition("_")[2] for folder in (own / "ray").iterdir()] == [str(os.getpid())]
    assert len(list((others / "ray").iterdir())) == 2


def test_what_a_driver_left_in_rays_usual_folder_goes_too(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "private"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    left = tmp_path / "ray" / "session_2026-11-29_08-00-00_000000_1"
    left.mkdir(parents=True)
    (left / LOCK).touch()
    sweep_sessions()
    assert not left.exists()


def test_a_session_that_is_not_found_is_not_marked(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    sweep_sessions()
    assert mark_session() is None
    (tmp_path / "ray" / f"session_2026-11-29_09-00-00_000000_{os.getpid()}").mkdir(parents=True)
    others = tmp_path / "ray" / "session_2026-11-29_10-00-00_000000_1"
    others.mkdir()
    lock = mark_session()
    assert lock is not None
    sweep_sessions()
    assert len(list((tmp_path / "ray").iterdir())) == 2
    other_thread = Thread(target=lock.release)  # a program may end its search in another one
    other_thread.start()
    other_thread.join()
    sweep_sessions()  # also those of searches that ended in order
    assert list((tmp_path / "ray").iterdir()) == [others]


RAYS = (
    "import sys, time; opened = open(sys.argv[1] + '/logs/raylet.out', 'w'); print('open', flush=True); time.sleep(600)"
)
# What `sweep_sessions` has open while it deletes a folder, stopped in the middle of it.
SWEEPING = """
import os, sys, time
from pathlib import Path
from filelock import FileLock
from winnow.search.ray_backend.watchdog import LOCK

lock = FileLock(Path(sys.argv[1], LOCK))
lock.acquire()
folder = os.open(sys.argv[1] + "/logs", os.O_RDONLY)
Path(sys.argv[1], LOCK).unlink()
print("open", flush=True)
time.sleep(600)
"""


def test_the_watchdog_of_a_killed_driver_spares_the_next_driver_that_deletes_its_folder(tmp_path: Path) -> None:
    """`winnow resume` right after a kill deletes the old session's folder while the old watchdog still kills Ray's processes."""
    driver = 999_999_999
    folder = tmp_path / "ray" / f"session_2026-11-30_01-00-00_000000_{driver}"
    (folder / "logs").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-ISE", watchdog.__file__, str(driver)], stdin=subprocess.PIPE) as watching:
        started = [
            subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)
            for code in (RAYS, SWEEPING)
        ]
        try:
            for process in started:
                assert process.stdout is not None
                assert process.stdout.readline() == "open\n"
            assert watching.stdin is not None
            watching.stdin.close()  # as the end of the driver does
            assert watching.wait(60) == 0
            assert started[0].wait(10) == -signal.SIGKILL
            assert started[1].poll() is None
        finally:
            watching.kill()
            for process in started:
                process.kill()
                process.communicate()
