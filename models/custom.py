"""Custom networks, and custom initialization of any network, by import path."""

from __future__ import annotations

from torch import Tensor, nn

from winnow.spaces import own_code
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Custom, OwnInitialization


def custom(model: Custom, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build a custom network by calling `package.module:function` with image_shape, num_classes and the other keys of the model.

    The network may define `parameter_groups(lr)`, see `models.parameter_groups`.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Raises:
        InputError: The function cannot be imported, does not take these keys, or returns no module.
        ModelRefused: The function raises an error.
    """
    keys = {"image_shape": image_shape, "num_classes": num_classes, **model.keys}
    network = own_code.call("model", model.name, keys)
    if not isinstance(network, nn.Module):
        raise InputError(f"model {model.name} must return a torch.nn.Module, but returned {type(network).__name__}")
    return network


def initialize_own(settings: OwnInitialization, network: nn.Module, images: Tensor) -> None:
    """Apply a custom initialization to the weights of a network, in place.

    Args:
        settings: The `initialization` section of a config.
        network: The network, on its device.
        images: Some training images float32 [N, C, H, W], normalized, on the device.

    Raises:
        InputError: The function cannot be imported, does not take these keys, or raises an error.
    """
    own_code.call("initialization", settings.name, {"network": network, "images": images, **settings.keys})
