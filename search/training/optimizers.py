"""Optimizers by name: from the settings of a config to a torch optimizer over a network's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from winnow import models
from winnow.spaces import schema

FUSED_DEVICES = ("cpu", "cuda")


def build_optimizer(settings: schema.Optimizer, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    """Return the optimizer of all trainable parameters; weight decay applies to all of them, as by default in torch."""
    groups = models.parameter_groups(model, settings.lr)
    return OPTIMIZERS[settings.name](groups, settings, device.type in FUSED_DEVICES)


def _sgd(parameters: Any, settings: schema.Sgd, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        lr=settings.lr,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
        weight_decay=settings.weight_decay,
        fused=fused,
    )


def _adam(parameters: Any, settings: schema.Adam, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, fused=fused, **_adam_arguments(settings))


def _adamw(parameters: Any, settings: schema.AdamW, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, fused=fused, **_adam_arguments(settings))


def _adam_arguments(settings: schema.Adam | schema.AdamW) -> dict[str, Any]:
    return {
        "lr": settings.lr,
        "betas": (settings.beta1, settings.beta2),
        "eps": settings.eps,
        "weight_decay": settings.weight_decay,
    }


def _rmsprop(parameters: Any, settings: schema.RmsProp, fused: bool) -> torch.optim.Optimizer:
    # torch has no fused RMSprop.
    return torch.optim.RMSprop(
        parameters,
        lr=settings.lr,
        alpha=settings.alpha,
        eps=settings.eps,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
}
