"""Builds the network of a model config, which maps float images [N, C, H, W] to logits [N, num_classes]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from winnow.models.cnn import cnn
from winnow.models.convnext import convnext
from winnow.models.custom import custom
from winnow.models.mixture import mixture
from winnow.models.mlp import mlp
from winnow.models.residual import residual
from winnow.models.vit import vit
from winnow.models.whitening import Whitening
from winnow.spaces.schema import Custom, Model, Transfer


def build(model: Model, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Build the network of a model config. The initial weights are drawn from torch's global generator, which should be seeded first.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.

    Returns:
        The network, on the CPU, in training mode.

    Raises:
        InputError: The config does not fit the images, or names weights that cannot be used.
    """
    family = "custom" if isinstance(model, Custom) else model.name
    return MODELS[family](model, image_shape, num_classes)


def fit_images(network: nn.Module, images: Callable[[], Tensor]) -> None:
    """Initialise every layer that depends on the training images, once, before the training.

    Args:
        network: The network.
        images: Returns some normalised training images, float32 [N, C, H, W]; called only if a layer needs them.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, Whitening)]
    for layer in layers:
        layer.fit_images(images())


def parameter_groups(network: nn.Module, lr: float) -> list[dict[str, Any]]:
    """Return the groups of trainable parameters for the optimizer, each with its own `lr`.

    A network with more than one learning rate defines a method `parameter_groups(lr)` that returns such a list. A schedule scales
    all learning rates by the same factor.

    Args:
        network: The network.
        lr: The optimizer's peak learning rate.

    Returns:
        The groups as dicts, as `torch.optim` takes them; groups without trainable parameters are left out.
    """
    own = getattr(network, "parameter_groups", None)
    groups: list[dict[str, Any]] = own(lr) if own else [{"params": list(network.parameters()), "lr": lr}]
    trained = [{**group, "params": [weight for weight in group["params"] if weight.requires_grad]} for group in groups]
    return [group for group in trained if group["params"]]


def _transfer(model: Transfer, image_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    from winnow.models.transfer import (
        transfer,  # torchvision takes as long to import as torch; only this family needs it
    )

    return transfer(model, image_shape, num_classes, build)


MODELS: dict[str, Callable[[Any, tuple[int, int, int], int], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "residual": residual,
    "mixture": mixture,
    "convnext": convnext,
    "vit": vit,
    "transfer": _transfer,
    "custom": custom,
}
