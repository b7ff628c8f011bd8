"""`--mps` with a stand-in for NVIDIA's control program: the daemon starts before the trials and ends with them."""

from __future__ import annotations

import os

import pytest

from winnow.search.ray_backend.backend import backend
from winnow.search.resources.mps import CONTROL, mps_daemon
from winnow.search.resources.plan import DeviceOptions
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


def test_a_daemon_that_does_not_start_is_named(control):
    control("echo 'An instance of this daemon is already running' >&2; exit 1")
    with pytest.raises(InputError, match="already running"), mps_daemon():
        pass
    assert "CUDA_MPS_PIPE_DIRECTORY" not in os.environ


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
