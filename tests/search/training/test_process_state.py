"""A training whose model changes the state of its process leaves nothing of that for the next one."""

from __future__ import annotations

import gc
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.overrides import TorchFunctionMode

from winnow.search.training import process_state
from winnow.search.training.process_state import SpoiledProcess, contained, read_state


def flip(owner: Any, name: str) -> None:
    """Turn a flag around, whatever an earlier test of this process left it at."""
    setattr(owner, name, not getattr(owner, name))


EVIL: dict[str, Callable[[Any], object]] = {
    "working directory": lambda folder: os.chdir(folder),
    "environment": lambda folder: os.environ.update(PATH="/nowhere", WINNOW_EVIL="1"),
    "signal handlers": lambda folder: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "alarm": lambda folder: signal.alarm(3600),
    "file mode mask": lambda folder: os.umask(0o177),
    "module search path": lambda folder: sys.path.insert(0, str(folder)),
    "warning filters": lambda folder: warnings.simplefilter("error"),
    "recursion limit": lambda folder: sys.setrecursionlimit(sys.getrecursionlimit() + 500),
    "garbage collector": lambda folder: gc.disable(),
    "socket timeout": lambda folder: socket.setdefaulttimeout(0.5),
    "NumPy errors": lambda folder: np.seterr(all="raise"),
    "standard streams": lambda folder: setattr(sys, "stdout", sys.stderr),
    "default dtype": lambda folder: torch.set_default_dtype(torch.float64),
    "default device": lambda folder: torch.set_default_device("meta"),
    "hooks of all modules": lambda folder: register_module_forward_hook(lambda module, inputs, output: output * 0),
    "gradient mode": lambda folder: torch.set_grad_enabled(False),
    "autocast": lambda folder: torch.set_autocast_enabled("cpu", True),
    "attention kernels": lambda folder: torch.backends.cuda.enable_flash_sdp(False),
    "denormal numbers": lambda folder: torch.set_flush_denormal(True),
    "anomaly detection": lambda folder: torch.autograd.set_detect_anomaly(True),
    "deterministic algorithms": lambda folder: torch.use_deterministic_algorithms(True, warn_only=True),
    "cuDNN flags": lambda folder: flip(torch.backends.cudnn, "enabled"),
    "oneDNN": lambda folder: flip(torch.backends.mkldnn, "enabled"),
    "precision of products": lambda folder: torch.set_float32_matmul_precision("medium"),
    "number of threads": lambda folder: torch.set_num_threads(torch.get_num_threads() + 1),
    "random state of Python": lambda folder: random.seed(1),
    "random state of NumPy": lambda folder: np.random.seed(1),
    "random state of torch": lambda folder: torch.manual_seed(1),
}


MORE = [
    ("environment", lambda folder: os.environ.pop("HOME")),
    ("standard streams", lambda folder: setattr(sys, "stderr", sys.stdout)),
    ("garbage collector", lambda folder: gc.disable()),
    ("autocast", lambda folder: torch.set_autocast_enabled("cuda", True)),
    ("attention kernels", lambda folder: torch.backends.cuda.enable_mem_efficient_sdp(False)),
    ("attention kernels", lambda folder: torch.backends.cuda.enable_math_sdp(False)),
    ("hooks of all modules", lambda folder: register_module_full_backward_hook(lambda module, inputs, outputs: None)),
    ("deterministic algorithms", lambda folder: torch.use_deterministic_algorithms(True)),
    ("cuDNN flags", lambda folder: flip(torch.backends.cudnn, "deterministic")),
    ("cuDNN flags", lambda folder: flip(torch.backends.cudnn, "benchmark")),
    ("cuDNN flags", lambda folder: flip(torch.backends.cudnn, "allow_tf32")),
]
"""Further damage to settings of several parts."""


@pytest.fixture(autouse=True)
def _sound_process(monkeypatch):
    monkeypatch.setattr(process_state, "_spoiled", [])


def test_every_setting_has_its_damage():
    assert EVIL.keys() | {"open modes of torch"} == process_state.SETTINGS.keys()


@pytest.mark.parametrize(("name", "damage"), [*EVIL.items(), *MORE])
def test_a_training_leaves_the_process_as_it_was(name, damage, tmp_path):
    def equal() -> bool:
        return process_state._equal(read_state()[name], before[name])

    if name == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0)  # pytest's timeout is one
    before = read_state()
    with contained():
        damage(tmp_path)
        assert not equal()
    assert equal()
    with contained():
        pass


def test_no_default_device_is_set_where_there_was_none():
    """A default device of "cpu" would make every call of torch slower."""
    modes = torch._C._len_torch_function_stack()
    with contained():
        torch.set_default_device("meta")
    assert torch._C._len_torch_function_stack() == modes


def test_also_one_that_fails():
    def fail() -> None:
        torch.set_default_dtype(torch.float64)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), contained():
        fail()
    assert torch.get_default_dtype() == torch.float32


def test_what_cannot_be_put_back_is_not_used_again():
    """A worker trains in a thread that is not the main one, which may not set handlers."""
    before = signal.getsignal(signal.SIGUSR1)

    def train() -> None:
        with contained():
            ignore.set()
            ignored.wait()

    ignore, ignored = threading.Event(), threading.Event()
    training = threading.Thread(target=train)
    training.start()
    ignore.wait()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    ignored.set()
    training.join()
    signal.signal(signal.SIGUSR1, before)
    with pytest.raises(SpoiledProcess, match=r"left its process unusable \(signal handlers\)"), contained():
        pass


class Mode(TorchFunctionMode):
    """Does nothing."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", [torch.inference_mode, Mode], ids=["inference", "functions"])
def test_a_process_with_an_open_mode_is_not_used_again(mode):
    opened = mode()
    try:
        with contained():
            opened.__enter__()
        with pytest.raises(SpoiledProcess, match="open modes of torch"), contained():
            pass
    finally:
        opened.__exit__(None, None, None)


@pytest.mark.parametrize(("number", "is_spoiled"), [(32, False), (33, True)])
def test_a_process_full_of_threads_is_not_used_again(number, is_spoiled):
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range(number)]
    try:
        with contained():
            for thread in threads:
                thread.start()
        refused = pytest.raises(SpoiledProcess, match=f"{number} threads") if is_spoiled else nullcontext()
        with refused, contained():
            pass
    finally:
        end.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("on", [False, True])
def test_what_was_set_before_a_training_is_set_after_it(on):
    """Not what torch or Python begin with."""
    settings = ("garbage collector", "deterministic algorithms", "denormal numbers")
    try:
        gc.enable() if on else gc.disable()
        torch.use_deterministic_algorithms(on, warn_only=on)
        torch.set_flush_denormal(on)
        state = read_state()
        with contained():
            gc.disable() if on else gc.enable()
            torch.use_deterministic_algorithms(not on)
            torch.set_flush_denormal(not on)
        assert {name: read_state()[name] for name in settings} == {name: state[name] for name in settings}
    finally:
        gc.enable()
        torch.use_deterministic_algorithms(False)
        torch.set_flush_denormal(False)


def test_an_error_of_cuda_that_stays_spoils_the_process_for_a_retraining_too():
    with pytest.raises(torch.AcceleratorError), contained():
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(SpoiledProcess, match="illegal memory access"), contained():
        pass


def test_a_folder_that_was_deleted_can_be_left(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gone").mkdir()
    with contained():
        os.chdir("gone")
        (tmp_path / "gone").rmdir()
    assert os.getcwd() == str(tmp_path)
