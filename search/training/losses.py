"""Losses by name: from the settings of a config to a function of logits [N, K] and labels [N] that returns the mean over N."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from winnow.spaces import schema

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def build_loss(settings: schema.Loss) -> LossFunction:
    """Return the training loss."""
    return LOSSES[settings.name](settings)


def build_evaluation_loss(settings: schema.Loss) -> LossFunction:
    """Return the same loss without label smoothing, so that validation losses can be compared between degrees of smoothing."""
    if isinstance(settings, schema.CrossEntropy):
        settings = schema.CrossEntropy()
    return build_loss(settings)


def _cross_entropy(settings: schema.CrossEntropy) -> LossFunction:
    return partial(functional.cross_entropy, label_smoothing=settings.label_smoothing)


def _margin(settings: schema.Margin) -> LossFunction:
    return partial(functional.multi_margin_loss, p=settings.p, margin=settings.margin)


LOSSES: dict[str, Callable[..., LossFunction]] = {"cross_entropy": _cross_entropy, "margin": _margin}
