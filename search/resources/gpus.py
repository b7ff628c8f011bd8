"""Finds out which GPUs torch can use: each GPU runs a kernel, and a GPU that cannot is reported with the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

SIGNS = {
    "/proc/driver/nvidia": "NVIDIA's driver",
    "/dev/nvidiactl": "NVIDIA's driver",
    "/dev/nvmap": "a Jetson's GPU",
    "/dev/dxg": "a GPU of Windows (WSL2)",
    "/dev/kfd": "AMD's driver",
}
"""Files that exist on a machine with a GPU for torch, and what they stand for. Without any of them, Winnow looks for no GPU."""
VENDORS = Path("/sys/class/drm")
"""Folder in which Linux lists the GPUs with drivers of the kernel."""
INTEL = "0x8086"
SLURM_LISTS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
"""Variables in which Slurm lists the GPUs of a job."""
SLURM_NUMBERS = ("SLURM_GPUS_ON_NODE", "SLURM_GPUS")
"""Variables in which Slurm gives the number of GPUs of a job."""
PATIENCE_SECONDS = 120.0
LEAST_FREE_MB = 500
"""Smallest free memory of a GPU in MB with which a trial can train. The context of the process that measures it is not counted as free."""


@dataclass(frozen=True)
class GpuReport:
    """The GPUs of a machine: which of them torch can use, and why not the others."""

    usable: tuple[int, ...] = ()
    """Torch's indices of the GPUs that ran a kernel."""
    names: tuple[str, ...] = ()
    """Names of the usable GPUs, with their memory."""
    problems: tuple[str, ...] = ()
    """Reasons why each of the others, or all of them, cannot be used."""
    has_slices: bool = False
    """Whether torch sees a slice of a GPU (MIG). It sees only one at a time."""
    slices: tuple[str, ...] = ()
    """UUIDs of all slices that this process may use; `usable` then are indices into them. Empty: not known."""
    is_rocm: bool = False
    """Whether these are GPUs of AMD, which Ray assigns by `HIP_VISIBLE_DEVICES`."""

    @property
    def line(self) -> str:
        """One line that says what is used, and why not the rest."""
        total = len(self.usable) + len(self.problems)
        if not self.usable:
            return f"no GPU is used: {'; '.join(self.problems) or 'this machine has none for CUDA or ROCm'}"
        unused = f"; not used: {'; '.join(self.problems)}" if self.problems else ""
        sliced = " (one slice for each process: CUDA shows no more)" if self.has_slices and not self.slices else ""
        what = "MIG slice" if self.slices else "GPU"
        return f"{len(self.usable)} of {total} {what}{'s' * (total > 1)} used: {', '.join(self.names)}{sliced}{unused}"


@cache
def gpus_of_this_machine() -> GpuReport:
    """Examine the GPUs in separate processes, which free their context and memory when they end."""
    found = next((what for sign, what in SIGNS.items() if Path(sign).exists()), None)
    if sys.platform != "win32" and found is None:
        return GpuReport(problems=_missing_slurm_gpus() or _others())
    report = _examined()
    if report.has_slices:
        slices = _slices()
        return _of_slices(slices) if len(slices) > 1 else report
    if found is not None and report.problems and report.problems[0].startswith("torch "):
        return replace(report, problems=(f"{found} is there, but {report.problems[0]}",))
    return report


def _examined(visible: str | None = None) -> GpuReport:
    """Examine the GPUs in a process of its own.

    Args:
        visible: `CUDA_VISIBLE_DEVICES` of that process. Default: that of this process.
    """
    command = [sys.executable, "-W", "ignore", "-m", "winnow.search.resources.gpus"]
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": visible} if visible else {})}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        return GpuReport(problems=(f"a test kernel did not finish within {PATIENCE_SECONDS:.0f} s",))
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return GpuReport(problems=(f"the process that tested them ended with exit code {done.returncode} ({last})",))
    raw = json.loads(done.stdout.splitlines()[-1])
    fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in raw.items()}
    return GpuReport(**fields)


def _slices() -> list[str]:
    """Return the UUIDs of the MIG slices that this process may use; none if they are not known."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return visible.split(",") if "MIG-" in visible else []
    import pynvml

    found = []
    try:
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
            for place in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                with suppress(pynvml.NVMLError_NotFound):  # a place without a slice
                    found.append(str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, place))))
    except pynvml.NVMLError:
        return []
    return found


def _of_slices(slices: Sequence[str]) -> GpuReport:
    """Examine each slice as a worker of Ray will see it: alone in `CUDA_VISIBLE_DEVICES`."""
    with ThreadPoolExecutor(len(slices)) as pool:
        reports = list(pool.map(_examined, slices))
    usable = tuple(index for index, report in enumerate(reports) if report.usable)
    names = tuple(name for report in reports for name in report.names)
    problems = tuple(problem for report in reports for problem in report.problems)
    return GpuReport(usable, names, problems, has_slices=True, slices=tuple(slices))


def _others() -> tuple[str, ...]:
    """Return the reason why a GPU that is not for CUDA or ROCm is not used; nothing if there is none, or if it is used as `mps`."""
    if sys.platform == "darwin":
        import torch

        works = torch.backends.mps.is_available()
        return () if works else (f"torch {torch.__version__} cannot use a GPU of this Mac",)
    vendors = [file.read_text().strip() for file in VENDORS.glob("renderD*/device/vendor")]
    return ("an Intel GPU is there, but Winnow trains on GPUs of NVIDIA, AMD and Apple",) if INTEL in vendors else ()


def _missing_slurm_gpus(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Return the problem that Slurm gave GPUs to the job but this machine has none, such as the login node of `salloc`."""
    for name in (*SLURM_LISTS, *SLURM_NUMBERS):
        if (value := environment.get(name, "")) not in ("", "0"):
            return (
                f"Slurm gave GPUs to this job ({name}={value}), but this machine has no GPU driver; to train on them, "
                "start the command with srun",
            )
    return ()


def hide_unusable(report: GpuReport, environment: MutableMapping[str, str] = os.environ) -> None:
    """Leave only the usable GPUs in `CUDA_VISIBLE_DEVICES` (ROCm: `HIP_VISIBLE_DEVICES`), so that Ray assigns no other one to a trial.

    Args:
        report: The GPUs of this machine. Nothing changes if all of them are usable, or none, unless they are MIG slices: Ray can give
            each worker a slice only by its UUID.
        environment: Variables to change. Default: those of this process.
    """
    if report.slices and report.usable:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(report.slices[index] for index in report.usable)
    elif report.usable and report.problems:
        # ROCm reads both variables, and the first of these two that is set decides.
        known = ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if report.is_rocm else ("CUDA_VISIBLE_DEVICES",)
        visible = next((environment[name] for name in known if environment.get(name)), "").split(",")
        names = [visible[index] if index < len(visible) and visible[index] else str(index) for index in report.usable]
        environment[known[0]] = ",".join(names)


def examine(torch: Any) -> GpuReport:
    """Run a kernel on each GPU that torch sees in this process, and report which GPUs can be used.

    Args:
        torch: The module `torch`.
    """
    if not torch.cuda.is_available():
        return GpuReport(problems=(_why_none(torch),))
    usable: list[int] = []
    names: list[str] = []
    problems: list[str] = []
    for index in range(torch.cuda.device_count()):
        name = torch.cuda.get_device_name(index)
        problem = _problem(torch, index)
        if problem:
            problems.append(f"{name}: {problem}")
        else:
            usable.append(index)
            names.append(f"{name} ({torch.cuda.get_device_properties(index).total_memory / 2**20:,.0f} MB)")
    return GpuReport(
        usable=tuple(usable),
        names=tuple(names),
        problems=tuple(problems),
        has_slices=any(" MIG " in name for name in names),
        is_rocm=torch.version.hip is not None,
    )


def _why_none(torch: Any) -> str:
    """Return the reason why torch sees no GPU at all."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for the CPU only"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']} hides them"
    try:
        torch.cuda.init()
    except Exception as error:
        return f"torch {torch.__version__}: {_first_line(error)}"
    return f"torch {torch.__version__} sees none"


def _problem(torch: Any, index: int) -> str | None:
    """Return the reason why a GPU cannot be used; None if it can."""
    try:
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        if (ones @ ones).sum().item() != 64.0**3:
            return "computes a wrong product"
        free, total = (size / 2**20 for size in torch.cuda.mem_get_info(index))
    except Exception as error:
        return _too_old(torch, index) or _first_line(error)
    if free < LEAST_FREE_MB:
        return f"only {free:,.0f} of {total:,.0f} MB are free"
    return None


def _too_old(torch: Any, index: int) -> str | None:
    """Return the capability of a GPU that is older than all that torch was built for; None for another GPU, or with ROCm."""
    if torch.version.hip is not None:
        return None
    capability = torch.cuda.get_device_capability(index)
    built = [arch.partition("_")[2].rstrip("af") for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
    oldest = min(((int(arch[:-1]), int(arch[-1])) for arch in built), default=(0, 0))
    if tuple(capability) >= oldest:
        return None
    actual, need = ("{}.{}".format(*pair) for pair in (capability, oldest))
    return f"compute capability {actual}, but torch {torch.__version__} has kernels for {need} and above"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip() if lines else type(error).__name__


def main() -> None:
    """Print the report of this machine as JSON."""
    import torch

    print(json.dumps(asdict(examine(torch))))


if __name__ == "__main__":
    main()
