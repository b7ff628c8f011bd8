"""Facts about the GPU of a training, as recorded with the figures of each epoch."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch


def gpu_facts(device: torch.device, replays_graphs: bool) -> dict[str, Any]:
    """Return memory, driver, CUDA and cuDNN of a GPU, and the peak memory of this process since `forget_peaks`.

    Args:
        device: The device of the training.
        replays_graphs: Whether the training replays CUDA graphs.

    Returns:
        The values of `winnow.spaces.gpu_facts.GPU_FACTS`, memory in MB (2^20 bytes); empty unless the device is CUDA or ROCm.
    """
    if device.type != "cuda":
        return {}
    return {
        **_constant_facts(device.index or 0),
        "replayed_cuda_graphs": replays_graphs,
        "peak_allocated_mb": _megabytes(torch.cuda.max_memory_allocated(device)),
        "peak_reserved_mb": _megabytes(torch.cuda.max_memory_reserved(device)),
    }


def forget_peaks(device: torch.device) -> None:
    """Start a new measurement of peak memory, since a process trains one trial after the other."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


@cache
def _constant_facts(index: int) -> dict[str, Any]:
    return {
        "gpu_memory_mb": _megabytes(torch.cuda.get_device_properties(index).total_memory),
        "driver": _driver(),
        "cuda": torch.version.cuda or (torch.version.hip and f"ROCm {torch.version.hip}"),
        "cudnn": _dotted(torch.backends.cudnn.version()),
        # `prepare_device` always allows it; GPUs have it since Ampere.
        "tf32": torch.version.hip is None and torch.cuda.get_device_capability(index) >= (8, 0),
    }


def _megabytes(size: int) -> float:
    return round(size / 2**20, 1)


def _driver() -> str | None:
    """Return the version of NVIDIA's driver; None if there is none, as with ROCm."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None


def _dotted(version: int | None) -> str | None:
    """Return cuDNN's version as it is written: 91002 is 9.10.2, and 8902 is 8.9.2."""
    if not version:
        return None
    unit = 10_000 if version >= 90_000 else 1_000
    return f"{version // unit}.{version % unit // 100}.{version % 100}"
