"""Convolutional networks: convolutional stages, then a fully connected head, as in LeNet (LeCun et al., 1998)."""

from __future__ import annotations

from torch import nn

from winnow.models.branches import SqueezeExcitation
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
from winnow.models.whitening import Whitening
from winnow.spaces.schema import Cnn, Stage
from winnow.spaces.shapes import trace


def cnn(model: Cnn, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.

    Raises:
        ShapeError: The stages shrink the image to nothing.
    """
    shapes = dict(trace(model, image_shape, num_classes))
    channels = 2 * image_shape[0] * model.whitening**2 if model.whitening else image_shape[0]
    widths = [channels, *(stage.filters for stage in model.stages)]
    stages = [_stage(model, stage, channels) for stage, channels in zip(model.stages, widths, strict=False)]
    network = sequence(
        whitening=Whitening(image_shape[0], model.whitening) if model.whitening else None,
        activation=ACTIVATIONS[model.activation]() if model.whitening else None,
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
            logits_scale=model.logits_scale,
        ),
    )
    initialize(network, model.init)
    set_norms(network, model.norm_momentum, model.norm_gain)
    return network


def _stage(model: Cnn, stage: Stage, in_channels: int) -> nn.Sequential:
    norm_follows = model.norm != "none" and model.norm_place == "after_conv"
    convolve = separable_conv if stage.separable else conv
    kernel = (stage.kernel, stage.padding, stage.stride)
    norms = {model.norm_place: norm_2d(model.norm, stage.filters)}
    pools = {model.pool_place: pool(stage.pool, stage.pool_size)}
    return sequence(
        # A norm directly after the convolution would remove the bias.
        conv=convolve(in_channels, stage.filters, *kernel, bias=not norm_follows),
        pool_after_conv=pools.get("after_conv"),
        norm=norms.get("after_conv"),
        activation=ACTIVATIONS[model.activation](),
        norm_after_activation=norms.get("after_activation"),
        squeeze=SqueezeExcitation(stage.filters, stage.squeeze) if stage.squeeze else None,
        pool=pools.get("after_activation"),
        norm_after_pool=norms.get("after_pool"),
        dropout=nn.Dropout2d(model.stage_dropout) if model.stage_dropout > 0 else None,
    )
