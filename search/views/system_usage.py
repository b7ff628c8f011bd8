"""CPU, memory and GPU use of this machine, for the live view."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import psutil
import pynvml

SECONDS_BETWEEN = 2.0


@dataclass(frozen=True)
class GpuUse:
    """Use of one GPU: the fraction of time it was busy, in [0, 1] (None if the driver does not say), and memory in MB."""

    index: int
    busy: float | None
    used_mb: float
    total_mb: float


@dataclass(frozen=True)
class Use:
    """Use of the machine: `cpu` is the busy fraction of all CPUs in [0, 1] since the last measurement. None: not known yet."""

    cpu: float | None = None
    used_mb: float | None = None
    total_mb: float | None = None
    gpus: tuple[GpuUse, ...] = ()


class Watch:
    """Measures the use every two seconds in its own thread; `latest` is the last measurement."""

    def __init__(self) -> None:
        self.latest = Use()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)

    def start(self) -> None:
        """Start measuring."""
        self._thread.start()

    def stop(self) -> None:
        """Stop measuring; `latest` stays."""
        self._ended.set()

    def _run(self) -> None:
        psutil.cpu_percent()  # the first call only starts the interval
        while not self._ended.wait(SECONDS_BETWEEN):
            self.latest = measure()


def measure() -> Use:
    """Measure the use of this machine; that of the CPUs is since the last call. Memory that could be freed at once counts as free."""
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    return Use(psutil.cpu_percent() / 100, _megabytes(used), _megabytes(memory.total), gpus())


def gpus() -> tuple[GpuUse, ...]:
    """Measure the use of each GPU of this machine; empty without an NVIDIA driver."""
    try:
        pynvml.nvmlInit()
        try:
            return tuple(map(_gpu, range(pynvml.nvmlDeviceGetCount())))
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError:
        return ()


def _gpu(index: int) -> GpuUse:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        busy = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
    except pynvml.NVMLError:  # a GPU that is divided by MIG has no such figure
        busy = None
    return GpuUse(index, busy, _megabytes(memory.used), _megabytes(memory.total))


def _megabytes(num_bytes: int) -> float:
    return num_bytes / 2**20
