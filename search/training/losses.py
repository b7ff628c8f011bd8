"""Losses by name. The settings of a config become a function of logits [N, K], labels [N] and weights [N] that returns a mean over N."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch.nn import functional

from winnow.spaces import own_code, schema


class LossFunction(Protocol):
    """Returns the mean over the images of their losses, each times its weight. Default of the weights: 1."""

    def __call__(
        self, logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, /
    ) -> torch.Tensor: ...


def build_loss(settings: schema.Loss, class_counts: torch.Tensor | None = None) -> LossFunction:
    """Return the training loss.

    Args:
        settings: The `loss` section of a config.
        class_counts: int64 [K], the training images of each class, on the device of the logits. Default: none, which only
            losses without class weights accept.

    Raises:
        InputError: The number of class weights is not the number of classes.
    """
    if isinstance(settings, schema.OwnLoss):
        return _own_loss(settings)
    loss = LOSSES[settings.name](settings)
    of_classes = None
    if settings.class_weights != "none":
        assert class_counts is not None
        of_classes = class_weights(settings.class_weights, class_counts)

    def mean_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, /) -> torch.Tensor:
        if weights is None and of_classes is None:
            return loss(logits, labels)
        losses = loss(logits, labels, reduction="none")
        # The mean of the products does not depend on how a batch is divided; a weighted mean would.
        for factor in (weights, None if of_classes is None else of_classes[labels]):
            losses = losses if factor is None else losses * factor
        return losses.mean()

    return mean_loss


def _own_loss(settings: schema.OwnLoss) -> LossFunction:
    own, keys = own_code.load("loss", settings.name), settings.keys

    def mean_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None, /) -> torch.Tensor:
        loss: torch.Tensor = own(logits=logits, labels=labels, **keys)
        return loss if weights is None else loss * weights[0]  # all are equal, see `Mixer`

    return mean_loss


def class_weights(settings: str | list[float], class_counts: torch.Tensor) -> torch.Tensor:
    """Return the weight of each class, float32 [K]; 0 for a class without training images if they are balanced.

    Args:
        settings: A value of `loss.class_weights`.
        class_counts: Training images of each class, [K].
    """
    if isinstance(settings, str):
        counts = class_counts.cpu().double()  # Apple's GPUs have no float64
        weights = torch.where(counts > 0, counts.sum() / (len(counts) * counts), 0.0)
        return weights.float().to(class_counts.device)
    schema.check_class_weights(settings, len(class_counts))
    return torch.tensor(settings, device=class_counts.device)


def build_evaluation_loss(settings: schema.Loss) -> LossFunction:
    """Return the loss that is measured for networks trained with `settings`, see `measured_loss`."""
    return build_loss(schema.measured_loss(settings))


def _cross_entropy(settings: schema.CrossEntropy) -> Callable[..., torch.Tensor]:
    return partial(functional.cross_entropy, label_smoothing=settings.label_smoothing)


def _focal(settings: schema.Focal) -> Callable[..., torch.Tensor]:
    def focal(logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
        cross_entropy = functional.cross_entropy(logits, labels, reduction="none")
        # Clamped above 0, where a power below 1 has an infinite slope.
        missing = (-torch.expm1(-cross_entropy)).clamp_min(torch.finfo(logits.dtype).eps)
        losses = missing**settings.gamma * cross_entropy
        return losses if reduction == "none" else losses.mean()

    return focal


def _margin(settings: schema.Margin) -> Callable[..., torch.Tensor]:
    return partial(functional.multi_margin_loss, p=settings.p, margin=settings.margin)


LOSSES: dict[str, Callable[..., Callable[..., torch.Tensor]]] = {
    "cross_entropy": _cross_entropy,
    "focal": _focal,
    "margin": _margin,
}
