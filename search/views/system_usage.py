"""How busy this machine is, for the live view: CPUs and memory from /proc, GPUs from nvidia-smi. What is not there is left out."""

from __future__ import annotations

import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN = 2.0


@dataclass(frozen=True)
class GpuUse:
    """One GPU: the share of time it was busy, in [0, 1], and its memory in MB; None where the driver does not say (MIG)."""

    index: int
    busy: float | None
    used_mb: float
    total_mb: float


@dataclass(frozen=True)
class Use:
    """`cpu` is the share of all CPUs in [0, 1] since the look before; None where there is no /proc."""

    cpu: float | None = None
    used_mb: float | None = None
    total_mb: float | None = None
    gpus: tuple[GpuUse, ...] = ()


class Watch:
    """Looks every two seconds in a thread of its own, as nvidia-smi takes its time; `latest` is what it saw last."""

    def __init__(self) -> None:
        self.latest = Use()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="usage", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    def _look(self) -> None:
        before = cpu_times()
        smi = shutil.which("nvidia-smi")
        while not self._ended.wait(SECONDS_BETWEEN):
            now = cpu_times()
            used, total = memory_mb()
            self.latest = Use(_busy_share(before, now), used, total, gpus(smi) if smi else ())
            before = now


def cpu_times() -> tuple[int, int] | None:
    """Ticks of all CPUs since the machine started: (busy, all)."""
    try:
        fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    idle = fields[3] + fields[4]  # waiting for a disk is idle too
    return sum(fields) - idle, sum(fields)


def _busy_share(before: tuple[int, int] | None, now: tuple[int, int] | None) -> float | None:
    if before is None or now is None or now[1] <= before[1]:
        return None
    return (now[0] - before[0]) / (now[1] - before[1])


def memory_mb() -> tuple[float | None, float | None]:
    """(used, total); what could be freed at once counts as free."""
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        total, free = (int(lines[key].split()[0]) / 1024 for key in ("MemTotal", "MemAvailable"))
    except (OSError, ValueError, KeyError):
        return None, None
    return total - free, total


def gpus(smi: str) -> tuple[GpuUse, ...]:
    """One entry per GPU of the machine; none where nvidia-smi fails."""
    query = "--query-gpu=index,utilization.gpu,memory.used,memory.total"
    try:
        done = subprocess.run(
            [smi, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(gpu for line in done.stdout.splitlines() if (gpu := parse_gpu(line)) is not None)


def parse_gpu(line: str) -> GpuUse | None:
    """`0, 87, 10321, 81559`; `[N/A]` in place of what is not known."""
    fields = [_number(field.strip()) for field in line.split(",")]
    if len(fields) != 4 or fields[0] is None or fields[2] is None or fields[3] is None:
        return None
    return GpuUse(int(fields[0]), None if fields[1] is None else fields[1] / 100, fields[2], fields[3])


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
