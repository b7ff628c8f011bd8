"""Restores the state of a process after each training, since a model is user code and may change it for the next one."""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn, cast

import numpy as np
import torch

from winnow.search.training.device_data import placed_bytes
from winnow.search.training.errors import RankLost, headline, spoils_process

MAX_THREADS_LEFT = 32
"""Number of new threads that a training may leave behind, since libraries keep pools of threads."""

MAX_MEMORY_LEFT = 256 * 2**20
"""Bytes on a GPU that trainings may leave behind in all, since cuBLAS keeps workspaces there."""

ROUNDS = 2
"""Number of attempts to restore the settings, since some of them change others."""

GLOBAL_HOOKS = "_global_"
"""Prefix of the variables in which `torch.nn.modules.module` keeps the hooks of all modules."""


class SpoiledProcess(RankLost):
    """An earlier training left the process in a state that cannot be restored; the next one runs in another process."""


@contextmanager
def contained() -> Iterator[None]:
    """Restore the state of the process after a training, however that ends.

    Raises:
        SpoiledProcess: The state could not be restored after an earlier training.
    """
    _note_memory_left()
    check_process()
    before, threads = read_state(), set(threading.enumerate())
    try:
        yield
    except Exception as error:
        if spoils_process(error):
            _spoiled.append(headline(error))
        raise
    finally:
        faulthandler.cancel_dump_traceback_later()  # with exit=True it would end the process in the next training; it cannot be read
        _spoiled.extend(restore(before))
        left = sum(thread not in threads for thread in threading.enumerate())
        if left > MAX_THREADS_LEFT:
            _spoiled.append(f"{left} threads")


def check_process() -> None:
    """Check that no earlier training left the process unusable.

    Raises:
        SpoiledProcess: One did.
    """
    if _spoiled:
        raise SpoiledProcess(f"an earlier training left its process unusable ({', '.join(_spoiled)})")


def _note_memory_left() -> None:
    """Spoil the process if earlier trainings left tensors on its GPU, for example in a list that belongs to the class of a model.

    This is noticed when the next training begins. When one ends with an error, the error still holds its tensors.
    """
    global _memory_at_first
    if _memory_at_first is None:
        _memory_at_first = _memory()
    if _memory() - _memory_at_first <= MAX_MEMORY_LEFT:
        return
    gc.collect()
    left = _memory() - _memory_at_first
    if left > MAX_MEMORY_LEFT:
        _spoiled.append(f"{left / 2**20:,.0f} MB on its GPU")


def _memory() -> int:
    """Return the bytes of the tensors on the GPU of this process, without the images that it keeps for the next training."""
    return torch.cuda.memory_allocated() - placed_bytes() if torch.cuda.is_initialized() else 0


def read_state() -> dict[str, Any]:
    """Read each setting of `SETTINGS`. One that cannot be read, such as a deleted working directory, is left out."""
    state = {}
    for name, setting in SETTINGS.items():
        with suppress(Exception):  # a library's errors are of any type
            state[name] = setting.read()
    return state


def restore(state: Mapping[str, Any]) -> list[str]:
    """Restore the settings that differ from the state, and return the names of those that cannot be restored."""
    for _ in range(ROUNDS):
        for name, value in state.items():
            if not _is(name, value):
                with suppress(Exception):  # such as a signal handler outside the main thread
                    SETTINGS[name].write(value)
    return [name for name, value in state.items() if not _is(name, value)]


def _is(name: str, value: Any) -> bool:
    """Return whether a setting has this value. One that cannot be read any more does not have it."""
    try:
        return _equal(SETTINGS[name].read(), value)
    except Exception:
        return False


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


class Setting(NamedTuple):
    """A piece of the state: how it is read, and how it is set."""

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


def _set_handlers(handlers: dict[int, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) != handler:
            signal.signal(number, handler)


def _set_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _torch_flag(path: str) -> Setting:
    """Return the setting for an attribute somewhere below `torch`."""
    owner, _, name = path.rpartition(".")
    return Setting(lambda: attrgetter(path)(torch), lambda value: setattr(attrgetter(owner)(torch), name, value))


def _limits() -> dict[str, Setting]:
    """Return the settings for the limits of the operating system, by names such as `RLIMIT_NOFILE`."""
    try:
        import resource
    except ImportError:  # Windows has none
        return {}
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        name: Setting(partial(resource.getrlimit, number), partial(resource.setrlimit, number))
        for name, number in zip(names, attrgetter(*names)(resource), strict=True)
    }


def _tracing() -> tuple[Any, ...]:
    """Return the functions that Python calls for every line and every call, in this thread and in new ones."""
    return sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()


def _set_tracing(functions: tuple[Any, ...]) -> None:
    setters = (sys.settrace, sys.setprofile, threading.settrace, threading.setprofile)
    for setter, function in zip(setters, functions, strict=True):
        setter(function)


def _collector() -> tuple[bool, tuple[int, int, int]]:
    return gc.isenabled(), gc.get_threshold()


def _set_collector(values: tuple[bool, tuple[int, int, int]]) -> None:
    enabled, thresholds = values
    gc.set_threshold(*thresholds)
    if enabled:
        gc.enable()
    else:
        gc.disable()


def _memory_shares() -> dict[int, float]:
    """Return the share of its memory that this process may use, of each GPU on which it may not use all."""
    if not torch.cuda.is_initialized():
        return {}
    devices = range(torch.cuda.device_count())
    shares = {device: round(torch.cuda.get_per_process_memory_fraction(device), 6) for device in devices}
    return {device: share for device, share in shares.items() if share != 1.0}


def _set_memory_shares(shares: dict[int, float]) -> None:
    for device in _memory_shares().keys() | shares.keys():
        torch.cuda.set_per_process_memory_fraction(shares.get(device, 1.0), device)


def _set_affinity(cpus: set[int]) -> None:
    """Set the CPUs of all threads: those that a training started have the ones of the thread that it ran in."""
    for thread in os.listdir("/proc/self/task"):
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cpus)


def _numpy_state() -> tuple[Any, ...]:
    """Return the state of NumPy's global generator, with its array as a tuple, so that two states can be compared."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, tuple(keys), *rest)


def _streams() -> tuple[Any, Any]:
    return sys.stdout, sys.stderr


def _set_streams(streams: tuple[Any, Any]) -> None:
    sys.stdout, sys.stderr = streams


def _autocast() -> tuple[tuple[str, bool, torch.dtype], ...]:
    return tuple(
        (device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in ("cpu", "cuda")
    )


def _set_autocast(values: tuple[tuple[str, bool, torch.dtype], ...]) -> None:
    for device, enabled, dtype in values:
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _attention(name: str) -> Setting:
    """Return the setting for a kernel of scaled dot product attention."""
    cuda = torch.backends.cuda
    return Setting(getattr(cuda, f"{name}_sdp_enabled"), getattr(cuda, f"enable_{name}_sdp"))


def _keeps_denormal() -> bool:
    return bool(torch.tensor(1e-40, dtype=torch.float32, device="cpu") * 1.0 > 0)


def _set_warning_filters(filters: list[Any]) -> None:
    warnings.resetwarnings()  # also forgets what was shown under the other filters
    cast("list[Any]", warnings.filters).extend(filters)


def _hooks() -> dict[str, Any]:
    """Return the hooks that torch calls for every module, by the name of the variable that holds them."""
    hooks = ((name, value) for name, value in vars(torch.nn.modules.module).items() if name.startswith(GLOBAL_HOOKS))
    return {name: dict(value) if isinstance(value, dict) else value for name, value in hooks}


def _set_hooks(hooks: dict[str, Any]) -> None:
    for name, value in hooks.items():
        if isinstance(value, dict):
            kept = getattr(torch.nn.modules.module, name)
            kept.clear()
            kept.update(value)
        else:
            setattr(torch.nn.modules.module, name, value)


def _modes() -> tuple[bool, int, int]:
    """Return whether inference mode is open, and the number of open modes of torch's functions and of its dispatcher."""
    torch_c = torch._C
    return torch.is_inference_mode_enabled(), torch_c._len_torch_function_stack(), torch_c._len_torch_dispatch_stack()


def _saved_tensors_hooks() -> tuple[Any, bool]:
    """Return the hooks for tensors that autograd saves that were set last, and whether such hooks are allowed."""
    autograd: Any = torch._C._autograd
    return autograd._top_saved_tensors_default_hooks(False), autograd._saved_tensors_hooks_is_enabled()


def _refuse(value: Any) -> NoReturn:
    raise RuntimeError("only the object that opened a context can close it")


def _alarms() -> set[int]:
    """Return the timers of this process that run, each of which sends a signal. Windows has none."""
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF) if hasattr(signal, "getitimer") else ()
    return {timer for timer in timers if signal.getitimer(timer)[0] > 0}


def _stop_alarms(were_set: set[int]) -> None:
    for timer in _alarms() - were_set:
        signal.setitimer(timer, 0.0)


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _end_group(had_one: bool) -> None:
    if not had_one:
        torch.distributed.destroy_process_group()


def _sync_debug_mode() -> int:
    return torch.cuda.get_sync_debug_mode() if torch.cuda.is_initialized() else 0  # reading it would start CUDA


def _set_sync_debug_mode(mode: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it a prototype
        torch.cuda.set_sync_debug_mode(mode)


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


BACKEND_FLAGS = (
    "cudnn.enabled",
    "cudnn.deterministic",
    "cudnn.benchmark",
    "cudnn.benchmark_limit",
    "mkldnn.enabled",
    "mkldnn.deterministic",
    "cuda.matmul.allow_fp16_accumulation",
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_fp16_reduced_precision_reduction_split_k",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction_split_k",
    "fp32_precision",  # first, since the others have its value unless they have one of their own
    "cudnn.fp32_precision",
    "cudnn.conv.fp32_precision",
    "cudnn.rnn.fp32_precision",
    "cuda.matmul.fp32_precision",
    "mkldnn.matmul.fp32_precision",
    "mkldnn.conv.fp32_precision",
    "mkldnn.rnn.fp32_precision",
    "cudnn.allow_tf32",  # after the precisions: with some of them it cannot be read
    "opt_einsum.enabled",
    "opt_einsum.strategy",
)
"""Attributes below `torch.backends` that are restored."""

SETTINGS = {
    "working directory": Setting(os.getcwd, os.chdir),
    "environment": Setting(lambda: dict(os.environ), _set_environment),
    "signal handlers": Setting(_handlers, _set_handlers),
    "alarms": Setting(_alarms, _stop_alarms),
    "standard streams": Setting(_streams, _set_streams),
    "file mode mask": Setting(_umask, os.umask),
    **_limits(),
    "CPUs": Setting(lambda: os.sched_getaffinity(0), _set_affinity),
    "module search path": Setting(lambda: list(sys.path), lambda path: sys.path.__setitem__(slice(None), path)),
    "warning filters": Setting(lambda: list(warnings.filters), _set_warning_filters),
    "recursion limit": Setting(sys.getrecursionlimit, sys.setrecursionlimit),
    "garbage collector": Setting(_collector, _set_collector),
    "tracing": Setting(_tracing, _set_tracing),
    # Only root may raise it again; otherwise the process is replaced.
    "priority": Setting(
        lambda: os.getpriority(os.PRIO_PROCESS, 0), lambda value: os.setpriority(os.PRIO_PROCESS, 0, value)
    ),
    "socket timeout": Setting(socket.getdefaulttimeout, socket.setdefaulttimeout),
    "NumPy errors": Setting(np.geterr, lambda errors: np.seterr(**errors)),
    "default dtype": Setting(torch.get_default_dtype, torch.set_default_dtype),
    # torch also returns "cpu" if no default device is set; setting it would make every call slower.
    "default device": Setting(
        lambda: str(torch.get_default_device()), lambda name: torch.set_default_device(None if name == "cpu" else name)
    ),
    "open modes of torch": Setting(_modes, _refuse),  # after the default device, which is one
    "hooks of all modules": Setting(_hooks, _set_hooks),
    "gradient mode": Setting(torch.is_grad_enabled, torch.set_grad_enabled),
    "autocast": Setting(_autocast, _set_autocast),
    "cache of autocast": Setting(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    "hooks of saved tensors": Setting(_saved_tensors_hooks, _refuse),
    "default group of torch.distributed": Setting(_has_group, _end_group),
    "errors on synchronization": Setting(_sync_debug_mode, _set_sync_debug_mode),
    "memory of GPUs": Setting(_memory_shares, _set_memory_shares),
    "threads of autograd": Setting(torch._C._is_multithreading_enabled, torch.autograd.set_multithreading_enabled),
    **{f"{name} attention": _attention(name) for name in ("flash", "mem_efficient", "math", "cudnn")},
    "reductions of math attention": Setting(
        torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed,
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp,
    ),
    "denormal numbers": Setting(_keeps_denormal, lambda keeps: torch.set_flush_denormal(not keeps)),
    "anomaly detection": Setting(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "deterministic algorithms": Setting(
        _deterministic, lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
    ),
    "filling of new tensors": _torch_flag("utils.deterministic.fill_uninitialized_memory"),
    **{f"torch.backends.{path}": _torch_flag(f"backends.{path}") for path in BACKEND_FLAGS},
    "precision of products": Setting(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "number of threads": Setting(torch.get_num_threads, torch.set_num_threads),
    "number of threads between operations": Setting(torch.get_num_interop_threads, torch.set_num_interop_threads),
    "random state of Python": Setting(random.getstate, random.setstate),
    "random state of NumPy": Setting(_numpy_state, np.random.set_state),
    "random state of torch": Setting(torch.get_rng_state, torch.set_rng_state),
}

_spoiled: list[str] = []
_memory_at_first: int | None = None
