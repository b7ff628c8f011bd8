"""Number and memory formats of a device."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path

import torch
from torch import nn

from winnow.spaces.errors import InputError

CPU_FLAGS_FOR_BFLOAT16 = ("avx512_bf16", "amx_bf16")
CPU_FLAGS_FOR_FLOAT16 = ("avx512_fp16", "amx_fp16")
TENSOR_CORES = (7, 0)
"""Compute capability of the first GPUs with tensor cores (V100)."""
WITHOUT_TENSOR_CORES = re.compile(r"GTX 16\d\d|\bT(400|500|550|600|1000|1200|2000)\b|\bMX(450|550)\b")
"""Names of GPUs with the compute capability of a T4 but without tensor cores; some are known to produce NaN in float16."""


def prepare_device(device: torch.device) -> None:
    """Set up the process to use TensorFloat-32 if the GPU supports it, and deterministic algorithms."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute products of float32 numbers in float32 rather than TensorFloat-32 within this context."""
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
    """Return the context in which a network computes in its `number_type`.

    Args:
        precision: A value of `config.precision`.
        device: The device to train on.
        model: The network.

    Raises:
        InputError: The device does not support `precision` in hardware.
    """
    chosen = number_type(precision, device, model)
    return nullcontext() if chosen == torch.float32 else torch.autocast(device.type, chosen)


def number_type(precision: str, device: torch.device, model: nn.Module) -> torch.dtype:
    """Return the type of numbers in which a network computes.

    `auto` is bfloat16 on a device that supports it in hardware, because in software it is 50 times slower; float16 on an
    older GPU with tensor cores; else float32. On a CPU, a network with grouped or depthwise convolutions stays in float32,
    because it takes twice as long in bfloat16, while other networks take half as long.

    Args:
        precision: A value of `config.precision`.
        device: The device to train on.
        model: The network.

    Raises:
        InputError: The device does not support `precision` in hardware.
    """
    if precision == "auto":
        if device.type == "cpu" and _has_grouped_convolutions(model):
            return torch.float32
        if has_bfloat16(device):
            return torch.bfloat16
        return torch.float16 if has_fast_float16(device) else torch.float32
    if precision == "float32":
        return torch.float32
    is_supported = {"bfloat16": has_bfloat16, "float16": has_float16}[precision]
    if not is_supported(device):
        why = "Winnow has not tried it on" if device.type == "mps" else "it is computed in software only on"
        raise InputError(f"precision: {precision}, but {why} the device {device}; use `auto` or `float32`")
    return torch.bfloat16 if precision == "bfloat16" else torch.float16


@cache
def has_bfloat16(device: torch.device) -> bool:
    """Return whether the device supports bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _cpu_has(CPU_FLAGS_FOR_BFLOAT16)


@cache
def has_float16(device: torch.device) -> bool:
    """Return whether the device supports float16 in hardware."""
    return device.type == "cuda" or (device.type == "cpu" and _cpu_has(CPU_FLAGS_FOR_FLOAT16))


@cache
def has_fast_float16(device: torch.device) -> bool:
    """Return whether the device is a GPU with tensor cores, which make float16 fast."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < TENSOR_CORES:
        return False
    return not WITHOUT_TENSOR_CORES.search(torch.cuda.get_device_name(device))


def _cpu_has(flags: tuple[str, ...]) -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.is_file() and any(flag in cpuinfo.read_text() for flag in flags)


def image_format(model: nn.Module) -> torch.memory_format:
    """Return channels_last for a network with convolutions. Other networks flatten the images first, and would have to copy them."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    return torch.channels_last if convolutional else torch.contiguous_format


def _has_grouped_convolutions(model: nn.Module) -> bool:
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in model.modules())
