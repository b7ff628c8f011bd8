"""A training whose model changes the state of its process leaves nothing of that for the next one."""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.autograd.graph import disable_saved_tensors_hooks, saved_tensors_hooks
from torch.nn.modules.module import register_module_forward_hook, register_module_full_backward_hook
from torch.overrides import TorchFunctionMode

from winnow.search.training import device_data, process_state
from winnow.search.training.process_state import SpoiledProcess, contained, read_state

LIMITS = [name for name in process_state.SETTINGS if name.startswith("RLIMIT_")]
OTHERS = {"ieee": "tf32", "tf32": "ieee", "none": "ieee", "auto": "greedy", 10: 11}
"""Another value of a flag, by its value."""


def flip(name: str) -> None:
    """Give a flag of torch another value, whatever an earlier test of this process left it at."""
    owner, _, attribute = name.rpartition(".")
    value = attrgetter(name)(torch)
    setattr(attrgetter(owner)(torch), attribute, OTHERS.get(value, not value))


def lower(name: str) -> None:
    """Lower a limit of the operating system."""
    number = getattr(resource, name)
    soft, hard = resource.getrlimit(number)
    resource.setrlimit(number, (2**40 if soft < 0 else soft - 1, hard))


EVIL: dict[str, Callable[[Any], object]] = {
    "working directory": lambda folder: os.chdir(folder),
    "environment": lambda folder: os.environ.update(PATH="/nowhere", WINNOW_EVIL="1"),
    "signal handlers": lambda folder: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "alarms": lambda folder: signal.alarm(3600),
    "file mode mask": lambda folder: os.umask(0o177),
    "CPUs": lambda folder: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    "module search path": lambda folder: sys.path.insert(0, str(folder)),
    "warning filters": lambda folder: warnings.simplefilter("error"),
    "recursion limit": lambda folder: sys.setrecursionlimit(sys.getrecursionlimit() + 500),
    "garbage collector": lambda folder: gc.disable(),
    "tracing": lambda folder: sys.settrace(lambda *_: None),
    "socket timeout": lambda folder: socket.setdefaulttimeout(0.5),
    "NumPy errors": lambda folder: np.seterr(all="raise"),
    "standard streams": lambda folder: setattr(sys, "stdout", sys.stderr),
    "default dtype": lambda folder: torch.set_default_dtype(torch.float64),
    "default device": lambda folder: torch.set_default_device("meta"),
    "hooks of all modules": lambda folder: register_module_forward_hook(lambda module, inputs, output: output * 0),
    "gradient mode": lambda folder: torch.set_grad_enabled(False),
    "autocast": lambda folder: torch.set_autocast_enabled("cpu", True),
    "cache of autocast": lambda folder: torch.set_autocast_cache_enabled(False),
    "default group of torch.distributed": lambda folder: torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/group", rank=0, world_size=1
    ),
    "threads of autograd": lambda folder: torch.autograd.set_multithreading_enabled(False),
    "flash attention": lambda folder: torch.backends.cuda.enable_flash_sdp(False),
    "mem_efficient attention": lambda folder: torch.backends.cuda.enable_mem_efficient_sdp(False),
    "math attention": lambda folder: torch.backends.cuda.enable_math_sdp(False),
    "cudnn attention": lambda folder: torch.backends.cuda.enable_cudnn_sdp(False),
    "reductions of math attention": lambda folder: torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(True),
    "denormal numbers": lambda folder: torch.set_flush_denormal(True),
    "anomaly detection": lambda folder: torch.autograd.set_detect_anomaly(True),
    "deterministic algorithms": lambda folder: torch.use_deterministic_algorithms(True, warn_only=True),
    "filling of new tensors": lambda folder: flip("utils.deterministic.fill_uninitialized_memory"),
    "precision of products": lambda folder: torch.set_float32_matmul_precision("medium"),
    "number of threads": lambda folder: torch.set_num_threads(torch.get_num_threads() + 1),
    "random state of Python": lambda folder: random.seed(1),
    "random state of NumPy": lambda folder: np.random.seed(1),
    "random state of torch": lambda folder: torch.manual_seed(1),
}


MORE: list[tuple[str, Callable[[Any], object]]] = [
    ("environment", lambda folder: os.environ.pop("HOME")),
    ("standard streams", lambda folder: setattr(sys, "stderr", sys.stdout)),
    ("alarms", lambda folder: signal.setitimer(signal.ITIMER_VIRTUAL, 3600)),
    ("alarms", lambda folder: signal.setitimer(signal.ITIMER_PROF, 3600)),
    ("garbage collector", lambda folder: gc.set_threshold(1)),
    ("tracing", lambda folder: sys.setprofile(lambda *_: None)),
    ("tracing", lambda folder: threading.settrace(lambda *_: None)),
    ("tracing", lambda folder: threading.setprofile(lambda *_: None)),
    ("autocast", lambda folder: torch.set_autocast_enabled("cuda", True)),
    ("autocast", lambda folder: torch.set_autocast_dtype("cpu", torch.float16)),
    ("autocast", lambda folder: torch.set_autocast_dtype("cuda", torch.bfloat16)),
    ("hooks of all modules", lambda folder: register_module_full_backward_hook(lambda module, inputs, outputs: None)),
    ("deterministic algorithms", lambda folder: torch.use_deterministic_algorithms(True)),
    ("precision of products", lambda folder: setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32")),
    ("torch.backends.cudnn.allow_tf32", lambda folder: flip("backends.cudnn.conv.fp32_precision")),
    *[(name, lambda folder, name=name: lower(name)) for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE")],
    *[
        (f"torch.backends.{path}", lambda folder, path=path: flip(f"backends.{path}"))
        for path in process_state.BACKEND_FLAGS
        if not path.endswith("_split_k")
    ],
]
"""Further damage to settings of several parts, or to several settings of a kind."""

OF_GPUS = ("memory of GPUs", "errors on synchronization")

NOT_CLOSED = ("open modes of torch", "hooks of saved tensors", "number of threads between operations")
"""Settings that nobody can restore."""


@pytest.fixture(autouse=True)
def _sound_process(monkeypatch):
    monkeypatch.setattr(process_state, "_spoiled", [])


def test_every_setting_has_its_damage():
    flags = {f"torch.backends.{path}" for path in process_state.BACKEND_FLAGS}
    assert {*EVIL, *NOT_CLOSED, *LIMITS, *flags, "priority", *OF_GPUS} == process_state.SETTINGS.keys()


def test_every_setting_can_be_read():
    assert read_state().keys() == process_state.SETTINGS.keys()


@pytest.mark.parametrize(("name", "damage"), [*EVIL.items(), *MORE])
def test_a_training_leaves_the_process_as_it_was(name, damage, tmp_path):
    def equal() -> bool:
        return process_state._is(name, before[name])

    if name == "alarms":
        signal.setitimer(signal.ITIMER_REAL, 0)  # pytest's timeout is one
    before = read_state()
    with contained():
        damage(tmp_path)
        assert not equal()
    assert equal()
    with contained():
        pass


def test_the_priority_is_restored_where_that_is_allowed():
    """In a thread of its own: where it is not, the priority of this thread would stay low."""
    found: list[int] = []

    def train() -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, 0))
        os.nice(1)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, found[0])
        except PermissionError:
            return
        with contained():
            os.nice(1)
        found.append(os.getpriority(os.PRIO_PROCESS, 0))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    if len(found) == 1:
        pytest.skip("this user may not raise a priority")
    assert found[0] == found[1]


@pytest.mark.parametrize("before", [{}, {1: 0.5}])
def test_the_memory_of_gpus_that_a_training_may_use_is_restored(monkeypatch, before):
    """With a stand-in for two GPUs. A limit that stayed would make later trainings run out of memory."""
    shares = {0: 1.0, 1: 1.0} | before
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: shares[device])
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: shares.__setitem__(device, share)
    )
    with contained():
        torch.cuda.set_per_process_memory_fraction(0.1, 0)
        torch.cuda.set_per_process_memory_fraction(0.2, 1)
    assert shares == {0: 1.0, 1: 1.0} | before


def test_errors_on_synchronization_are_switched_off_again(monkeypatch):
    """With a stand-in for a GPU. They would fail every later training."""
    modes = [0]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    with contained():
        torch.cuda.set_sync_debug_mode(2)
    assert modes == [0, 2, 0]


def test_a_timer_that_ends_the_process_is_stopped():
    """`faulthandler.dump_traceback_later` would end the next training."""
    code = (
        "import faulthandler, time\n"
        "from winnow.search.training.process_state import contained\n"
        "with contained():\n"
        "    faulthandler.dump_traceback_later(0.5, exit=True)\n"
        "time.sleep(1)\n"
        "print('alive')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr


def test_a_setting_that_can_no_longer_be_read_keeps_no_other_from_being_restored(monkeypatch):
    """An error of a library may have any type."""

    class Odd(Exception):
        pass

    def fail(*_: Any) -> None:
        if is_broken:
            raise Odd

    is_broken = False
    broken = process_state.Setting(fail, fail)
    monkeypatch.setattr(process_state, "SETTINGS", {"broken": broken, **process_state.SETTINGS})
    with contained():
        is_broken = True
        torch.set_default_dtype(torch.float64)
    assert torch.get_default_dtype() == torch.float32
    assert "broken" not in read_state()
    with pytest.raises(SpoiledProcess, match=r"left its process unusable \(broken\)"), contained():
        pass


@pytest.mark.parametrize(
    "damage",
    [
        {"cuda.matmul.fp32_precision": "tf32"},
        {"fp32_precision": "ieee"},
        {"cudnn.conv.fp32_precision": "ieee", "cudnn.rnn.fp32_precision": "tf32"},
        {"fp32_precision": "tf32", "cudnn.fp32_precision": "ieee", "mkldnn.matmul.fp32_precision": "bf16"},
    ],
    ids=str,
)
def test_a_model_may_set_the_precision_of_each_operation(damage):
    """After that, torch refuses to read the precision through its older functions."""

    def precisions() -> list[str]:
        owners = (
            "",
            "cudnn.",
            "cudnn.conv.",
            "cudnn.rnn.",
            "cuda.matmul.",
            "mkldnn.matmul.",
            "mkldnn.conv.",
            "mkldnn.rnn.",
        )
        return [attrgetter(f"backends.{owner}fp32_precision")(torch) for owner in owners]

    before = precisions(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for _ in range(2):
        with contained():
            for path, value in damage.items():
                owner, _, name = f"backends.{path}".rpartition(".")
                setattr(attrgetter(owner)(torch), name, value)
        assert process_state._spoiled == []
    assert (precisions(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_threads_that_a_training_started_have_all_cpus_again():
    """A new thread has the CPUs of the one that starts it, as the pools of OpenMP do."""
    cpus = os.sched_getaffinity(0)
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    try:
        with contained():
            os.sched_setaffinity(0, {min(cpus)})
            thread.start()
        assert thread.native_id is not None
        assert os.sched_getaffinity(thread.native_id) == cpus
    finally:
        end.set()
        thread.join()


def test_a_number_of_threads_that_is_final_spoils_the_process():
    """In a process of its own, since torch allows this once."""
    code = (
        "import torch; from winnow.search.training import process_state as p\n"
        "with p.contained(): torch.set_num_interop_threads(torch.get_num_interop_threads() + 1)\n"
        "p.check_process()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "left its process unusable (number of threads between operations)" in done.stderr


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


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        (torch.inference_mode, "open modes of torch"),
        (Mode, "open modes of torch"),
        (lambda: saved_tensors_hooks(lambda x: x, lambda x: x), "hooks of saved tensors"),
        (lambda: disable_saved_tensors_hooks("none"), "hooks of saved tensors"),
    ],
    ids=["inference", "functions", "hooks", "no hooks"],
)
def test_a_process_with_an_open_context_is_not_used_again(mode, name):
    opened = mode()
    try:
        with contained():
            opened.__enter__()
        with pytest.raises(SpoiledProcess, match=name), contained():
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


@pytest.fixture
def gpu(monkeypatch) -> SimpleNamespace:
    """A pretended GPU that holds `used` bytes of tensors, `garbage` of them in a cycle, and images."""

    def collect() -> None:
        gpu.used, gpu.garbage = gpu.used - gpu.garbage, 0

    gpu = SimpleNamespace(used=10**9, garbage=0)
    monkeypatch.setattr(process_state, "_memory_at_first", None)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda: gpu.used)
    monkeypatch.setattr(gc, "collect", collect)
    monkeypatch.setattr(device_data, "_placed", {})
    return gpu


def test_tensors_that_a_training_leaves_on_the_gpu_spoil_the_process(gpu):
    """However it ends: here it runs out of memory, which alone is no reason to replace the process."""

    def train() -> None:
        gpu.used += 3 * 10**8
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError), contained():
        train()
    with pytest.raises(SpoiledProcess, match=r"left its process unusable \(286 MB on its GPU\)"), contained():
        pass


def test_a_little_of_each_training_adds_up(gpu):
    for _ in range(2):
        with contained():
            gpu.used += 10**8
    with contained():
        gpu.used += 10**8
    with pytest.raises(SpoiledProcess, match="286 MB on its GPU"), contained():
        pass


def test_images_and_garbage_on_the_gpu_are_not_left_behind(gpu):
    class Tensor:
        is_cuda = True
        nbytes = 5 * 10**8

        def data_ptr(self) -> int:
            return id(self)

    with contained():
        images, labels = Tensor(), Tensor()
        train = SimpleNamespace(images=images, labels=labels, index=labels)
        validation = SimpleNamespace(images=images, labels=labels, index=labels)
        device_data._placed["the data set",] = train, validation  # type: ignore[assignment]
        gpu.used += 10**9 + 10**9
        gpu.garbage = 10**9
    with contained():
        assert gpu.garbage == 0


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
