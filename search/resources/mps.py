"""CUDA MPS: one daemon per machine lets kernels of several processes run on a GPU at the same time instead of in turn."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from winnow.search.storage.leftovers import MPS, temporary_errors, temporary_folder
from winnow.search.storage.mps_control import CONTROL, variables
from winnow.spaces.errors import InputError

PATIENCE_SECONDS = 60.0
ENDING = f'trap "" HUP INT TERM; cat >/dev/null; echo quit | {CONTROL}'
"""A script that ends the daemon when its standard input closes: at the end of the block, or when the driver is killed."""


@contextmanager
def mps_daemon() -> Iterator[None]:
    """Start a daemon for the processes that this one starts. It ends with the block, or with this process, also if that is killed.

    Its pipes and logs are in a private folder, so it does not interfere with other daemons.

    Raises:
        InputError: NVIDIA's driver has no MPS here, CUDA_VISIBLE_DEVICES names the GPUs in a way that fails under it, the daemon did not start or end, or temporary files cannot be written.
    """
    if shutil.which(CONTROL) is None:
        raise InputError(
            f"--mps: {CONTROL} is not on the PATH; it comes with NVIDIA's driver for Linux. Leave --mps out"
        )
    _check_names()
    with ExitStack() as stack:
        with temporary_errors("start the command again"):
            folder = stack.enter_context(temporary_folder(MPS))
        stack.enter_context(_set(variables(folder)))
        _start()
        stack.enter_context(_ended())
        yield


def _check_names() -> None:
    """Check that a GPU has the same name for the daemon and for the processes that use it.

    The daemon renumbers the GPUs that it sees from 0, so a process that is given GPU 2 of the machine would find none.

    Raises:
        InputError: CUDA_VISIBLE_DEVICES has numbers other than 0, 1, ...
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    numbers = [name.strip() for name in named.split(",")]
    if any(name.isdecimal() for name in numbers) and numbers != [str(number) for number in range(len(numbers))]:
        raise InputError(
            f"--mps: CUDA_VISIBLE_DEVICES={named} names GPUs by their number, but the MPS daemon renumbers those that it sees from 0; name "
            "them by their UUID, as nvidia-smi -L prints it, or leave --mps out"
        )


@contextmanager
def _set(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables in the block, then restore them."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _start() -> None:
    """Start the daemon. The control program returns at once, since the daemon runs in the background."""
    try:
        done = subprocess.run([CONTROL, "-d"], input="", capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _refusal(f"did not answer within {PATIENCE_SECONDS:.0f} s") from error
    if done.returncode:
        reason = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        raise _refusal(f"failed ({reason})")


@contextmanager
def _ended() -> Iterator[None]:
    """End the daemon after the block. Another process does it, which lives on if this one is killed."""
    ending = subprocess.Popen(
        ["sh", "-c", ENDING],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that signals to the driver's process group do not reach it
    )
    try:
        yield
    finally:
        try:
            ending.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise _refusal(f"did not end the daemon within {PATIENCE_SECONDS:.0f} s") from error
        if ending.returncode:
            raise _refusal(f"did not end the daemon (exit code {ending.returncode})")


def _refusal(problem: str) -> InputError:
    return InputError(f"--mps: {CONTROL} {problem}; leave --mps out")
