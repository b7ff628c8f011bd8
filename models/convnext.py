"""ConvNeXt: blocks of a depthwise convolution and two 1x1 convolutions (Liu et al., 2022)."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from winnow.models.branches import LayerScale, skip_probabilities, survivors
from winnow.models.layers import ACTIVATIONS, ChannelNorm, conv, flatten, head, initialize, sequence
from winnow.spaces.schema import ConvNext, ConvNextStage
from winnow.spaces.shapes import trace


def convnext(model: ConvNext, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.

    Raises:
        ShapeError: The patches or the stages shrink the image to nothing.
    """
    trace(model, image_shape, num_classes)
    widths = [stage.filters for stage in model.stages]
    skips = skip_probabilities(model.stochastic_depth, sum(stage.blocks for stage in model.stages))
    stages = [
        _stage(model, stage, channels, skips) for stage, channels in zip(model.stages, [None, *widths], strict=False)
    ]
    network = sequence(
        stem=_patches(image_shape[0], widths[0], model.patch),
        stages=nn.Sequential(*stages),
        features=flatten("avg"),
        norm=nn.LayerNorm(widths[-1]),
        head=head(widths[-1], [], num_classes, model.activation, dropout_rate=model.dropout, dropout_place="last"),
    )
    initialize(network, model.init)
    return network


class ConvNextBlock(nn.Module):
    """ConvNeXt block, which maps images [N, C, H, W] to `images + branch(images)`."""

    def __init__(self, model: ConvNext, stage: ConvNextStage, skip_probability: float) -> None:
        super().__init__()
        channels, hidden = stage.filters, stage.filters * model.expansion
        self.branch = sequence(
            depthwise=conv(channels, channels, stage.kernel, groups=channels),
            norm=ChannelNorm(channels),
            expand=conv(channels, hidden, 1),
            activation=ACTIVATIONS[model.activation](),
            project=conv(hidden, channels, 1),
            scale=None if model.layer_scale is None else LayerScale(channels, model.layer_scale),
        )
        self.skip_probability = skip_probability

    def forward(self, images: Tensor) -> Tensor:
        return images + survivors(self.branch(images), self.skip_probability, self.training)


def _stage(model: ConvNext, stage: ConvNextStage, in_channels: int | None, skips: Iterator[float]) -> nn.Sequential:
    """Return a stage. `in_channels` is the number of channels of the previous stage, or None for the first stage."""
    downsampling = None
    if in_channels is not None:
        downsampling = sequence(norm=ChannelNorm(in_channels), conv=conv(in_channels, stage.filters, 2, 0, 2))
    blocks = [ConvNextBlock(model, stage, next(skips)) for _ in range(stage.blocks)]
    return sequence(downsampling=downsampling, blocks=nn.Sequential(*blocks))


def _patches(in_channels: int, out_channels: int, patch: int) -> nn.Sequential:
    return sequence(conv=conv(in_channels, out_channels, patch, 0, patch), norm=ChannelNorm(out_channels))
