"""CUDA MPS: one daemon per machine lets kernels of several processes run on a GPU at the same time instead of in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from winnow.search.storage.leftovers import temporary_folder
from winnow.spaces.errors import InputError

CONTROL = "nvidia-cuda-mps-control"
PATIENCE_SECONDS = 60.0


@contextmanager
def mps_daemon() -> Iterator[None]:
    """Start a daemon for the processes that this one starts, and stop it at the end of the block.

    Its pipes and logs are in a private folder, so it does not interfere with other daemons.

    Raises:
        InputError: NVIDIA's driver has no MPS here, or the daemon did not start.
    """
    if shutil.which(CONTROL) is None:
        raise InputError(
            f"--mps: {CONTROL} is not on the PATH; it comes with NVIDIA's driver for Linux. Leave --mps out"
        )
    names = ("CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY")
    before = {name: os.environ.get(name) for name in names}
    with temporary_folder("mps") as folder:
        os.environ.update(dict.fromkeys(names, folder))
        try:
            _control("-d")
            try:
                yield
            finally:
                _control(commands="quit\n")
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value


def _control(*arguments: str, commands: str = "") -> None:
    """Run the control program, which returns at once, since the daemon runs in the background."""
    try:
        done = subprocess.run(
            [CONTROL, *arguments], input=commands, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"--mps: {CONTROL} did not answer within {PATIENCE_SECONDS:.0f} s") from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise InputError(f"--mps: {CONTROL} failed ({reason}); leave --mps out")
