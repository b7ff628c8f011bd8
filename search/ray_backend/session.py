"""Starts Ray without its output, and always shuts it down."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.search.ray_backend.held_signals import held_signals, held_sigterm
from winnow.search.ray_backend.local_start import prepare_local_start
from winnow.search.ray_backend.session_folders import mark_session, sweep_sessions
from winnow.search.ray_backend.watchdog import dismiss, watch
from winnow.search.resources.gpus import gpus_of_this_machine, hide_unusable
from winnow.search.resources.inventory import allocated_cpus, allocated_gpus
from winnow.search.storage.leftovers import sweep_temporary
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the default loggers triple the driver's share of the time
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # leave CUDA_VISIBLE_DEVICES alone in workers without a GPU
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Winnow's handler waits until the running epochs end
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a report of a failure has no metric
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # the study is the source of truth; Tune's own snapshot is never read
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    # Time of a worker to end a trial before it gets the next one: the `finally` of an own loop, or its log on a slow storage. After Tune's 2 s
    # the next trial would count a lost worker for it (`FunctionTrainable.reset_config`, Ray 2.60).
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "60",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # so that relative paths in a config have the same meaning in a worker
}


WARM = {
    "RAY_preload_python_modules": "winnow.search.ray_backend.preload",
    "RAY_idle_worker_killing_time_threshold_ms": "60000",  # otherwise Ray kills them before the trials need them
}
"""Settings with which a local Ray starts a process for each CPU that imports what trials need, while the driver still reads and plans."""
NVIDIA = Path("/proc/driver/nvidia")  # machines with GPUs have many CPUs but few trials: most imports would be wasted


@contextmanager
def ray_session(
    num_cpus: int | None = None,
    num_gpus: int | None = None,
    address: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    warm: bool = True,
) -> Iterator[Any]:
    """Start Ray or join a cluster, and yield the `ray` module.

    A Ray that already runs in this process (as in notebooks and tests) is used and left running.

    Args:
        num_cpus: CPUs for a local Ray. Default: all that this process may use.
        num_gpus: GPUs for a local Ray. Default: all that torch can use.
        address: `host:port` of a cluster to join. Default: start a local Ray.
        runtime_env: Runtime environment for the workers of a cluster.
        warm: Whether a local Ray starts processes in advance that import what trials need. Groups of ranks cannot use these
            processes.

    Raises:
        InputError: Ray did not start here, no cluster answers at `address`, or the cluster runs other versions of Ray or Python.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield ray
        return
    # Ray rejects numbers of CPUs and GPUs for a running cluster. Winnow applies them itself (search/ray_backend/cluster.py).
    resources = {"runtime_env": runtime_env} if address else _of_this_machine(num_cpus, num_gpus)
    if not address:
        prepare_local_start()
        sweep_sessions()
        sweep_temporary()
        watch()
        if warm and not NVIDIA.exists():
            for name, value in WARM.items():
                os.environ.setdefault(name, value)
    try:
        _init(ray, address, resources)
    except (KeyboardInterrupt, SystemExit) as error:  # Ray's handler of SIGTERM raises SystemExit
        _session.lock = None if address else mark_session()  # so that its folder is deleted at the next start
        _shut_down(ray)
        raise KeyboardInterrupt from error
    except (OSError, RuntimeError, ValueError) as error:  # also other versions, or a clash with a job's environment
        if address is None:
            if isinstance(error, ValueError):
                raise
            raise InputError(
                f"Ray did not start on this machine ({' '.join(str(error).split())}); nothing is lost"
            ) from error
        raise InputError(f"--address {address}: cannot join the cluster: {' '.join(str(error).split())}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise InputError(
            f"Ray did not start on this machine, which may be too busy now; nothing is lost, try again ({error})"
        ) from error
    _session.sent, _session.lock = {}, None if address else mark_session()
    try:
        yield ray
    finally:
        if not _session.kept:
            _shut_down(ray)


def _init(ray: Any, address: str | None, resources: dict[str, Any]) -> None:
    """Initialise Ray, and try once more if its servers do not start within Ray's limit of 30 s (Ray 2.60).

    This happens in a new environment on a busy machine. At the second attempt, Ray's files are in the page cache.
    """
    from winnow.search.ray_backend.lean_ray import lean_ray

    for is_last in (address is not None, True):
        try:
            with held_sigterm(), nullcontext() if address else lean_ray():
                ray.init(
                    address=address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                    configure_logging=False,
                    **resources,
                )
            return
        except Exception as error:
            if is_last or type(error) is not Exception:  # Ray raises a bare Exception for this
                raise


def _of_this_machine(num_cpus: int | None, num_gpus: int | None) -> dict[str, int | None]:
    """Return the numbers of CPUs and GPUs for a local Ray: the requested ones, or those that Slurm, the affinity mask and torch allow.

    None for the CPUs means all that Ray finds.
    """
    visible, allocated = allocated_gpus()
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    # Ray also declares GPUs that torch cannot use, such as those of Macs or GPUs with an old driver.
    report = gpus_of_this_machine()
    if num_gpus is None or num_gpus <= len(report.usable):  # more are declared for trials on the CPU
        hide_unusable(report)
    if num_gpus is None:
        num_gpus = len(report.usable) if allocated is None else min(allocated, len(report.usable))
    return {"num_cpus": num_cpus or allocated_cpus(), "num_gpus": num_gpus}


@contextmanager
def ray_kept() -> Iterator[None]:
    """Run several operations in one Ray: the first one starts it, and the end of this block shuts it down."""
    ray = _import_ray()
    if ray.is_initialized():
        yield
        return
    _session.kept = True
    try:
        yield
    finally:
        _session.kept = False
        _shut_down(ray)


@dataclass
class _Session:
    """The Ray session of this process; Ray allows one per process.

    Attributes:
        kept: Whether `ray_kept` shuts Ray down instead of the operation that started it.
        sent: References to images in a Ray that was started here, by fingerprint; None if Ray was started elsewhere and may
            outlive the references.
        lock: Marks the folder of a Ray that was started here.
    """

    kept: bool = False
    sent: dict[str, Any] | None = None
    lock: BaseFileLock | None = None


_session = _Session()


def put_once(ray: Any, fingerprint: str, images: Any) -> Any:
    """Put images into Ray's object store, once for search and retraining.

    Args:
        ray: The `ray` module, connected.
        fingerprint: Fingerprint of the images. Equal images are stored once, unless Ray was started
            elsewhere: then every call stores them again.
        images: The images.

    Returns:
        The reference to them.
    """
    if _session.sent is None:
        return ray.put(images)
    if fingerprint not in _session.sent:
        _session.sent[fingerprint] = ray.put(images)
    return _session.sent[fingerprint]


def import_meanwhile(module: str) -> None:
    """Import a module in a separate thread while Ray waits for its processes to start; importing Tune takes 2 s of CPU time."""
    threading.Thread(target=importlib.import_module, args=(module,), daemon=True).start()


def is_running() -> bool:
    """Return whether Ray runs in this process, without importing it."""
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


def _shut_down(ray: Any) -> None:
    _session.sent = None
    with held_signals():
        try:
            ray.shutdown()
        except (
            OSError
        ):  # on a full disk Ray 2.60 cannot create the folder of spilled objects, which it would delete next
            ray._private.worker._global_node.destroy_external_storage = lambda: None
            ray.shutdown()
        if _session.lock is not None:
            _session.lock.release()
            _session.lock = None
        dismiss()


def _import_ray() -> Any:
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
    # In a notebook, Ray recommends ipywidgets, which Winnow's view does not need.
    logging.getLogger("ray.widgets.util").setLevel(logging.CRITICAL)
    import ray

    # Winnow reports errors itself; messages of Ray's and Tune's loggers would break the progress view.
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return ray
