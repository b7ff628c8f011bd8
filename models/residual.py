"""Residual network of basic blocks (He et al., 2016), with a scale on the branch (Szegedy et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn

from winnow.models.branches import SqueezeExcitation, skip_probabilities, survivors
from winnow.models.layers import (
    ACTIVATIONS,
    conv,
    flatten,
    head,
    initialize,
    norm_2d,
    pool,
    separable_conv,
    sequence,
    set_norms,
)
from winnow.spaces.schema import Residual, ResidualStage
from winnow.spaces.shapes import trace


def residual(model: Residual, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.

    Raises:
        ShapeError: The stages shrink the image to nothing.
    """
    shapes = dict(trace(model, image_shape, num_classes))
    widths = [model.stem, *(stage.filters for stage in model.stages)]
    skips = skip_probabilities(model.stochastic_depth, sum(stage.blocks for stage in model.stages))
    stages = [_stage(model, stage, channels, skips) for stage, channels in zip(model.stages, widths, strict=False)]
    network = sequence(
        stem=nn.Sequential(*_unit(model, image_shape[0], model.stem)),
        stages=nn.Sequential(*stages),
        features=flatten(model.features),
        head=head(
            shapes["features"][0],
            model.head,
            num_classes,
            model.activation,
            model.head_norm,
            model.dropout,
            model.dropout_place,
            model.logits_norm,
        ),
    )
    initialize(network, model.init)
    set_norms(network, model.norm_momentum, model.norm_gain)
    return network


class ResidualBlock(nn.Module):
    """Residual block: `scale * branch(x) + shortcut(x)`, or the branch alone without `skip`; x is [N, C, H, W]."""

    def __init__(
        self, model: Residual, in_channels: int, out_channels: int, stride: int, skip_probability: float
    ) -> None:
        super().__init__()
        convolve = separable_conv if model.separable else partial(conv, groups=model.groups)
        first = _unit(model, in_channels, out_channels, stride, convolve)
        second = _unit(model, out_channels, out_channels, 1, convolve)
        squeeze = [] if model.squeeze is None else [SqueezeExcitation(out_channels, model.squeeze)]
        self.branch = nn.Sequential(*first, *second, *squeeze)
        self.scale = model.scale
        self.skip_probability = skip_probability
        self.shortcut = _shortcut(model, in_channels, out_channels, stride) if model.skip else None

    def forward(self, images: Tensor) -> Tensor:
        if self.shortcut is None:
            return self.branch(images)
        return self.scale * survivors(self.branch(images), self.skip_probability, self.training) + self.shortcut(images)


def _stage(model: Residual, stage: ResidualStage, in_channels: int, skips: Iterator[float]) -> nn.Sequential:
    blocks = [ResidualBlock(model, in_channels, stage.filters, stage.stride, next(skips))]
    blocks += [ResidualBlock(model, stage.filters, stage.filters, 1, next(skips)) for _ in range(stage.blocks - 1)]
    return sequence(blocks=nn.Sequential(*blocks), pool=pool(stage.pool, stage.pool_size))


def _unit(
    model: Residual, in_channels: int, out_channels: int, stride: int = 1, convolve: Callable[..., nn.Module] = conv
) -> list[nn.Module]:
    """Return a 3x3 convolution and an activation, with the norm between or after them."""
    norm = norm_2d(model.norm, out_channels)
    activation = ACTIVATIONS[model.activation]()
    norm_follows = norm is not None and model.norm_place == "after_conv"
    convolution = convolve(in_channels, out_channels, 3, stride=stride, bias=not norm_follows)
    if norm is None:
        return [convolution, activation]
    return [convolution, norm, activation] if norm_follows else [convolution, activation, norm]


def _shortcut(model: Residual, in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    norm = norm_2d(model.norm, out_channels)
    return sequence(conv=conv(in_channels, out_channels, 1, stride=stride, bias=norm is None), norm=norm)
