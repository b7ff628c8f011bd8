"""Parameter groups: which weights have their own learning rate or weight decay."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import nn

from winnow import models
from winnow.models.layers import NORM_LAYERS
from winnow.spaces import schema


def parameter_groups(settings: schema.BuiltInOptimizer, model: nn.Module) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups, each with its `lr` and `weight_decay`.

    The network's own groups (`models.parameter_groups`) are split further by `norm_bias_lr_factor`, `head_lr_factor`, `layer_decay`
    and `decay_biases`.

    Args:
        settings: The `optimizer` section of a config.
        model: The network.
    """
    factors = _lr_factors(settings, model)
    split: dict[tuple[int, float, bool], list[nn.Parameter]] = defaultdict(list)
    groups = models.parameter_groups(model, settings.lr)
    for number, group in enumerate(groups):
        for weight in group["params"]:
            decays = settings.decay_biases or weight.ndim > 1
            split[number, factors.get(id(weight), 1.0), decays].append(weight)
    return [
        {
            **groups[number],
            "params": weights,
            "lr": groups[number].get("lr", settings.lr) * factor,
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (number, factor, decays), weights in split.items()
    ]


def _lr_factors(settings: schema.BuiltInOptimizer, model: nn.Module) -> dict[int, float]:
    """Return the factor of the learning rate of each parameter, by its `id`. A norm has the depth of the layer before it."""
    depth, depths = -1, dict[int, int]()
    factors: dict[int, float] = {}
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]
    for layer in model.modules():
        own = list(layer.parameters(recurse=False))
        depth += any(weight.ndim > 1 for weight in own)
        for weight in own:
            depths.setdefault(id(weight), max(depth, 0))
            is_norm_bias = isinstance(layer, NORM_LAYERS) and weight is getattr(layer, "bias", None)
            factors[id(weight)] = (settings.norm_bias_lr_factor if is_norm_bias else 1.0) * (
                settings.head_lr_factor if layer in last else 1.0
            )
    return {key: factor * settings.layer_decay ** (depth - depths[key]) for key, factor in factors.items()}
