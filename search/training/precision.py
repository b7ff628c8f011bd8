"""Number and memory formats by device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from winnow.spaces.errors import InputError

CPU_FLAGS_FOR_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def prepare_device(device: torch.device) -> None:
    """Process-wide settings: TensorFloat-32 where the GPU has it, and the same result for the same seed."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


def autocast(precision: str, device: torch.device, model: nn.Module) -> AbstractContextManager[object]:
    """`auto` is bfloat16 on a device that computes it in hardware, and float32 elsewhere: in software it is 50 times slower.

    On a CPU, grouped and depthwise convolutions stay in float32, and with them the whole network: in bfloat16 they take twice
    the time, where other networks take half of it. InputError where bfloat16 is asked for and the device has none.
    """
    if precision == "float32" or (precision == "auto" and device.type == "cpu" and _has_grouped_convolutions(model)):
        return nullcontext()
    if has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    if precision == "auto":
        return nullcontext()
    raise InputError(
        f"precision: bfloat16, but the device {device} computes it in software only; use `auto` or `float32`"
    )


@cache
def has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in CPU_FLAGS_FOR_BFLOAT16)


def image_format(model: nn.Module) -> torch.memory_format:
    """channels_last for a network with convolutions; a network without flattens first and would have to copy."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format


def _has_grouped_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in model.modules())
