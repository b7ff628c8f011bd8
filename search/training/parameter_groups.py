"""Parameter groups: which weights have their own learning rate or weight decay."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from winnow import models
from winnow.models.layers import NORM_LAYERS
from winnow.spaces import schema

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LAYERS_WITH_MATRICES = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention)


def parameter_groups(settings: schema.BuiltInOptimizer, model: nn.Module) -> list[dict[str, Any]]:
    """Return the trainable parameters in groups, each with its `lr` and `weight_decay`; for Muon also whether it is `orthogonal`.

    The network's own groups (`models.parameter_groups`) are split further by `norm_bias_lr_factor`, `head_lr_factor`, `layer_decay`
    and `decay_biases`.

    Args:
        settings: The `optimizer` section of a config.
        model: The network.
    """
    of_layers = matrices(model)
    factors = _lr_factors(settings, model, of_layers)
    orthogonal = of_layers - _of_last(model) if settings.name == "muon" else set()
    split: dict[tuple[int, float, bool, bool], list[nn.Parameter]] = defaultdict(list)
    groups = models.parameter_groups(model, settings.lr)
    for number, group in enumerate(groups):
        for weight in group["params"]:
            decays = settings.decay_biases or id(weight) in of_layers
            split[number, factors.get(id(weight), 1.0), decays, id(weight) in orthogonal].append(weight)
    return [
        {
            **groups[number],
            "params": weights,
            "lr": groups[number].get("lr", settings.lr) * factor,
            "weight_decay": settings.weight_decay if decays else 0.0,
            **({"orthogonal": is_orthogonal} if settings.name == "muon" else {}),
        }
        for (number, factor, decays, is_orthogonal), weights in split.items()
    ]


def matrices(model: nn.Module) -> set[int]:
    """Return the `id` of each weight that is a matrix: those of linear and convolution layers, and the inputs of attention.

    Other parameters with several dimensions are none, such as the class token and the positions of a transformer, or the scales of
    the layers of a ConvNeXt.
    """
    owned = (layer.parameters(recurse=False) for layer in model.modules() if isinstance(layer, LAYERS_WITH_MATRICES))
    return {id(weight) for weights in owned for weight in weights if weight.ndim > 1}


def _lr_factors(settings: schema.BuiltInOptimizer, model: nn.Module, of_layers: set[int]) -> dict[int, float]:
    """Return the factor of the learning rate of each parameter, by its `id`."""
    factors: dict[int, float] = {}
    last = _of_last(model)
    for layer in model.modules():
        for weight in layer.parameters(recurse=False):
            is_norm_bias = isinstance(layer, NORM_LAYERS) and weight is getattr(layer, "bias", None)
            factors[id(weight)] = (settings.norm_bias_lr_factor if is_norm_bias else 1.0) * (
                settings.head_lr_factor if id(weight) in last else 1.0
            )
    depths = _depths(model, of_layers)
    deepest = max(depths.values(), default=0)
    return {key: factor * settings.layer_decay ** (deepest - depths[key]) for key, factor in factors.items()}


def _of_last(model: nn.Module) -> set[int]:
    """Return the `id` of each parameter of the last linear layer."""
    last = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1:]
    return {id(weight) for layer in last for weight in layer.parameters()}


def _depths(model: nn.Module, of_layers: set[int]) -> dict[int, int]:
    """Return the depth of each parameter, by its `id`. What has no matrices, such as a norm, has the depth of the layer before it."""
    depth, depths = -1, dict[int, int]()
    for weights in _layers(model, of_layers, is_whole=True):
        depth += any(id(weight) in of_layers for weight in weights)
        for weight in weights:
            depths.setdefault(id(weight), max(depth, 0))
    return depths


def _layers(module: nn.Module, of_layers: set[int], is_whole: bool = False) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters of each layer from the first to the last. A block counts as one, since its layers may be parallel."""
    if is_whole or isinstance(module, CONTAINERS) or any(_has_blocks(each, of_layers) for each in module.modules()):
        yield list(module.parameters(recurse=False))
        for child in module.children():
            yield from _layers(child, of_layers)
    else:
        yield list(module.parameters())


def _has_blocks(module: nn.Module, of_layers: set[int]) -> bool:
    """Return whether most entries of a container are blocks: modules of their own with several matrices."""
    if not isinstance(module, CONTAINERS):
        return False
    entries = list(module.children())
    blocks = [entry for entry in entries if not isinstance(entry, CONTAINERS)]
    nums = [sum(id(weight) in of_layers for weight in block.parameters()) for block in blocks]
    return 2 * sum(num > 1 for num in nums) > len(entries)
