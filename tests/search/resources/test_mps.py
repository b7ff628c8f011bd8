"""`--mps` with a stand-in for NVIDIA's control program: the daemon starts before the trials and ends with them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import psutil
import pytest

from winnow.reports.durable import LOCK
from winnow.search.ray_backend.backend import backend
from winnow.search.resources.mps import mps_daemon
from winnow.search.resources.plan import DeviceOptions
from winnow.search.storage.leftovers import sweep_temporary
from winnow.search.storage.mps_control import CONTROL
from winnow.spaces.errors import InputError

STAND_IN = """#!/bin/sh
echo "$@ $(test -t 0 || cat)" >> "{log}"
echo "$CUDA_MPS_PIPE_DIRECTORY" >> "{log}.folder"
{end}
"""


@pytest.fixture
def control(tmp_path, monkeypatch):
    """Puts a stand-in on the PATH that notes how it is called, and then ends as `end` says."""

    def install(end: str = "") -> None:
        program = tmp_path / "bin" / CONTROL
        program.parent.mkdir()
        program.write_text(STAND_IN.format(log=tmp_path / "log", end=end))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return install


def test_the_daemon_starts_with_the_block_and_ends_with_it(control, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_MPS_LOG_DIRECTORY", "theirs")
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    control()
    with mps_daemon():
        folder = os.environ["CUDA_MPS_PIPE_DIRECTORY"]
        assert (tmp_path / "log").read_text().split() == ["-d"]
    assert (tmp_path / "log").read_text().split() == ["-d", "quit"]
    assert (tmp_path / "log.folder").read_text().split() == [folder, folder]
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ
    assert os.environ["CUDA_MPS_LOG_DIRECTORY"] == "theirs"
    assert not os.path.exists(folder)


def test_without_the_program_it_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=f"{CONTROL} is not on the PATH"), mps_daemon():
        pass


@pytest.mark.parametrize("named", ["1", "2,3", "1,0"])
def test_numbers_that_the_daemon_would_change_are_refused(control, monkeypatch, tmp_path, named):
    control()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with (
        pytest.raises(InputError, match=f"CUDA_VISIBLE_DEVICES={named} names GPUs by their number.* by their UUID"),
        mps_daemon(),
    ):
        pass
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("named", ["", "0", "0,1", "GPU-8a2f,GPU-11c0", "MIG-77"])
def test_names_that_the_daemon_shares_are_kept(control, monkeypatch, tmp_path, named):
    control()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    with mps_daemon():
        assert os.environ["CUDA_VISIBLE_DEVICES"] == named


def test_a_daemon_that_does_not_start_is_named(control):
    control("echo 'An instance of this daemon is already running' >&2; exit 1")
    with pytest.raises(InputError, match="already running"), mps_daemon():
        pass
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


def test_a_daemon_that_does_not_end_is_named(control):
    control('test "$1" || exit 3')
    with pytest.raises(InputError, match=r"did not end the daemon \(exit code 3\)"), mps_daemon():
        pass


DRIVER = """
import time
from winnow.search.resources.mps import mps_daemon
with mps_daemon():
    print("started", flush=True)
    time.sleep(600)
"""


def test_the_daemon_ends_with_a_driver_that_is_killed(control, tmp_path):
    """Also if signals came before to every process, as from Slurm."""
    control()
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "started\n"
            for process in psutil.Process(driver.pid).children():
                process.terminate()
        finally:
            driver.kill()
    deadline = time.monotonic() + 60
    while len(folders := (tmp_path / "log.folder").read_text().split()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "log").read_text().split() == ["-d", "quit"]
    assert folders[0] == folders[1]


def test_a_daemon_that_is_left_ends_before_its_pipes_are_deleted(control, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    left, other = (tmp_path / f"winnow-{purpose}-12345678" for purpose in ("mps", "tune"))
    for folder in (left, other):
        folder.mkdir()
        (folder / LOCK).touch()
    control(f'ls -A "$CUDA_MPS_PIPE_DIRECTORY" > {tmp_path}/pipes')
    sweep_temporary()
    assert (tmp_path / "log").read_text().split() == ["quit"]
    assert (tmp_path / "log.folder").read_text().split() == [str(left)]
    assert (tmp_path / "pipes").read_text().split() == [LOCK]
    assert (left.exists(), other.exists()) == (False, False)


def test_it_is_for_gpus():
    with pytest.raises(InputError, match="--mps is for NVIDIA GPUs"):
        DeviceOptions(device="cpu", mps=True)


def test_on_a_cluster_it_is_refused_before_anything_is_joined():
    joined = backend(print, DeviceOptions(mps=True), "10.0.0.5:6379", [], 1, [], "runs")
    with (
        pytest.raises(
            InputError,
            match=r"on a cluster run `nvidia-cuda-mps-control -d` on each node .* `winnow launch` writes this",
        ),
        joined,
    ):
        pass
