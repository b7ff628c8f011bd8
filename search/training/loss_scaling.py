"""Scales the loss of a training in float16, in which small gradients would become zero."""

from __future__ import annotations

import torch

INITIAL_SCALE = 2.0**16
GROWTH_INTERVAL = 2000
"""Steps without an overflow after which the scale doubles."""
LEAST_SCALE = 2.0**-14
"""Gradients that overflow at this scale are not finite at any scale, so the training has diverged."""


def loss_scaler(
    number_type: torch.dtype, device: torch.device, optimizer: torch.optim.Optimizer
) -> torch.amp.GradScaler:
    """Return a scaler of the loss, which skips steps whose gradients overflow. It does nothing unless the numbers are float16.

    Args:
        number_type: The type in which the network computes.
        device: The device of the training.
        optimizer: The optimizer, before its first step.
    """
    enabled = number_type == torch.float16
    if enabled and isinstance(optimizer, torch.optim.SGD):
        _begin_momentum(optimizer)
    return torch.amp.GradScaler(device.type, init_scale=INITIAL_SCALE, growth_interval=GROWTH_INTERVAL, enabled=enabled)


def _begin_momentum(optimizer: torch.optim.SGD) -> None:
    """Set the momentum to zero, since torch's fused SGD leaves it uninitialised if the first step is skipped (torch 2.11 to 2.15)."""
    for group in optimizer.param_groups:
        if group["momentum"] and group["fused"]:
            for weight in group["params"]:
                optimizer.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
