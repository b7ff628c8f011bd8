"""Number and memory formats by device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from spaces.errors import InputError

CPU_FLAGS_FOR_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def prepare_device(device: torch.device) -> None:
    """Process-wide settings: TensorFloat-32 where the GPU has it, and the same result for the same seed."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """`auto` is bfloat16 on a GPU that has it and float32 elsewhere: emulated on a CPU it is 50 times slower.

    InputError where bfloat16 is asked for and the device has none.
    """
    if precision == "float32" or (precision == "auto" and device.type != "cuda"):
        return nullcontext()
    if has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    if precision == "auto":
        return nullcontext()
    raise InputError(
        f"precision: bfloat16, but the device {device} computes it in software only; use `auto` or `float32`"
    )


@cache  # it is asked at every step
def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in CPU_FLAGS_FOR_BFLOAT16)


def image_format(model: nn.Module) -> torch.memory_format:
    """channels_last for a network with convolutions; a network without flattens first and would have to copy."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format
