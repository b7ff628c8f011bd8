"""Optimizers by name. The settings of a config become a torch optimizer of a network's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from winnow import models
from winnow.search.training.lion import Lion
from winnow.search.training.muon import Muon
from winnow.search.training.parameter_groups import parameter_groups
from winnow.spaces import own_code, schema
from winnow.spaces.errors import InputError

FUSED_DEVICES = ("cpu", "cuda")
IMAGES_PER_UNIT = 1024
"""Number of images to which learning rate, momentum and weight decay refer in a decoupled config."""


def build_optimizer(
    settings: schema.Optimizer, model: nn.Module, device: torch.device, batch_size: int = IMAGES_PER_UNIT
) -> torch.optim.Optimizer:
    """Return the optimizer of all trainable parameters.

    Args:
        settings: The `optimizer` section of a config.
        model: The network, on the device.
        device: The device.
        batch_size: Images per step, which matters only for decoupled settings. Default: `IMAGES_PER_UNIT`.

    Raises:
        InputError: A custom optimizer cannot be created, or its function returns something else.
    """
    if isinstance(settings, schema.OwnOptimizer):
        return _own(settings, model)
    groups = parameter_groups(settings, model)
    if isinstance(settings, schema.Sgd) and settings.decoupled:
        settings = _coupled(settings, groups, batch_size)
    return OPTIMIZERS[settings.name](groups, settings, device.type in FUSED_DEVICES)


def _own(settings: schema.OwnOptimizer, model: nn.Module) -> torch.optim.Optimizer:
    arguments = {"parameters": models.parameter_groups(model, settings.lr), "lr": settings.lr, **settings.keys}
    optimizer = own_code.call("optimizer", settings.name, arguments)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer {settings.name} must return a torch.optim.Optimizer, but returned {type(optimizer).__name__}"
        )
    return optimizer


def _coupled(settings: schema.Sgd, groups: list[dict[str, Any]], batch_size: int) -> schema.Sgd:
    """Convert settings per 1,024 images to those of torch, in the groups too.

    The steps that follow one gradient add up to lr / (1 - momentum), and the decay of one step is lr * weight_decay.
    """
    share = batch_size / IMAGES_PER_UNIT
    momentum = settings.momentum**share if settings.momentum else 0.0
    for group in groups:
        group["weight_decay"] /= group["lr"]
        group["lr"] *= share * (1 - momentum)
    return settings.model_copy(update={"momentum": momentum})


def _sgd(groups: Any, settings: schema.Sgd, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=fused)


def _adam(groups: Any, settings: schema.Adam, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adam(groups, fused=fused, **_adam_arguments(settings))


def _adamw(groups: Any, settings: schema.AdamW, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=fused, **_adam_arguments(settings))


def _nadam(groups: Any, settings: schema.NAdam, fused: bool) -> torch.optim.Optimizer:
    arguments = _adam_arguments(settings)
    return torch.optim.NAdam(
        groups, momentum_decay=settings.momentum_decay, decoupled_weight_decay=settings.decoupled_decay, **arguments
    )


def _radam(groups: Any, settings: schema.RAdam, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.RAdam(groups, decoupled_weight_decay=settings.decoupled_decay, **_adam_arguments(settings))


def _adamax(groups: Any, settings: schema.Adamax, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adamax(groups, **_adam_arguments(settings))


def _adam_arguments(settings: Any) -> dict[str, Any]:
    return {"lr": settings.lr, "betas": (settings.beta1, settings.beta2), "eps": settings.eps}


def _adagrad(groups: Any, settings: schema.Adagrad, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(groups, lr=settings.lr, lr_decay=settings.lr_decay, eps=settings.eps)


def _adadelta(groups: Any, settings: schema.Adadelta, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adadelta(groups, lr=settings.lr, rho=settings.rho, eps=settings.eps)


def _adafactor(groups: Any, settings: schema.Adafactor, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(groups, lr=settings.lr, beta2_decay=settings.beta2_decay, d=settings.clip)


def _asgd(groups: Any, settings: schema.Asgd, fused: bool) -> torch.optim.Optimizer:
    return torch.optim.ASGD(groups, lr=settings.lr, lambd=settings.lambd, alpha=settings.alpha)


def _lion(groups: Any, settings: schema.Lion, fused: bool) -> torch.optim.Optimizer:
    return Lion([{**group, "betas": (settings.beta1, settings.beta2)} for group in groups])


def _rmsprop(groups: Any, settings: schema.RmsProp, fused: bool) -> torch.optim.Optimizer:
    # torch has no fused RMSprop.
    return torch.optim.RMSprop(
        groups, lr=settings.lr, alpha=settings.alpha, eps=settings.eps, momentum=settings.momentum
    )


def _muon(groups: Any, settings: schema.Muon, fused: bool) -> torch.optim.Optimizer:
    """Use Muon for the matrices of hidden layers, and AdamW at `rest_lr` for the last linear layer and all other parameters."""
    factor = settings.rest_lr / settings.lr
    common = {"momentum": settings.momentum, "betas": (settings.beta1, settings.beta2), "eps": settings.eps}
    rates = [group["lr"] if group["orthogonal"] else group["lr"] * factor for group in groups]
    return Muon([{**group, **common, "lr": lr} for group, lr in zip(groups, rates, strict=True)])


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adam": _adam,
    "adamw": _adamw,
    "nadam": _nadam,
    "radam": _radam,
    "adamax": _adamax,
    "adagrad": _adagrad,
    "adadelta": _adadelta,
    "adafactor": _adafactor,
    "asgd": _asgd,
    "rmsprop": _rmsprop,
    "lion": _lion,
    "muon": _muon,
}
