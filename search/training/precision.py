"""Number and memory formats for a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from winnow.spaces.errors import InputError

CPU_FLAGS_FOR_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def prepare_device(device: torch.device) -> None:
    """Set up the process: TensorFloat-32 if the GPU supports it, and deterministic algorithms."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute products of float32 numbers in float32 within this context, not in TensorFloat-32."""
    if device.type != "cuda":
        yield
        return
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolutions


def autocast(precision: str, device: torch.device, model: nn.Module) -> AbstractContextManager[object]:
    """Return the context in which a network computes.

    `auto` is bfloat16 on a device that supports it in hardware, else float32: bfloat16 in software is 50 times slower. On a
    CPU, a network with grouped or depthwise convolutions stays in float32, because these take twice as long in bfloat16,
    while other networks take half as long.

    Args:
        precision: A value of `config.precision`.
        device: The device to train on.
        model: The network.

    Raises:
        InputError: `precision` is bfloat16, and the device does not support it in hardware.
    """
    if precision == "float32" or (precision == "auto" and device.type == "cpu" and _has_grouped_convolutions(model)):
        return nullcontext()
    if has_bfloat16(device):
        return torch.autocast(device.type, torch.bfloat16)
    if precision == "auto":
        return nullcontext()
    raise InputError(
        f"precision: bfloat16, but the device {device} only emulates it in software; use `auto` or `float32`"
    )


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Whether the device supports bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in CPU_FLAGS_FOR_BFLOAT16)


def image_format(model: nn.Module) -> torch.memory_format:
    """Return channels_last for a network with convolutions. A network without flattens first and would have to copy."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format


def _has_grouped_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in model.modules())
