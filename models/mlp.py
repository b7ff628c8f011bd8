"""Multi-layer perceptron."""

from __future__ import annotations

import math

from torch import nn

from winnow.models.layers import head, initialize, sequence
from winnow.spaces.schema import Mlp


def mlp(model: Mlp, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network: flatten the images, then linear, norm, activation and dropout for each hidden width, then the class layer.

    Args:
        model: The `model` section of the config.
        image_shape: (channels, height, width) of an image.
        num_classes: Number of classes, the width of the last layer.
    """
    layers = head(math.prod(image_shape), model.hidden, num_classes, model.activation, model.norm, model.dropout)
    network = sequence(features=nn.Flatten(), head=layers)
    initialize(network, model.init)
    return network
