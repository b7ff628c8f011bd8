"""Transfer learning: a trained backbone, frozen or fine-tuned, with a new head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from winnow.models.backbones import torchvision_backbone, trained_backbone
from winnow.models.layers import head
from winnow.models.timm_backbones import PREFIX, timm_backbone
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Model, TrainedBackbone, Transfer


def transfer(
    model: Transfer,
    image_shape: tuple[int, int, int],
    num_classes: int,
    build: Callable[[Model, tuple[int, int, int], int], nn.Module],
) -> nn.Module:
    """Build a trained backbone with a new head.

    Args:
        model: The `model` section of a config.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of logits.
        build: Builds the network of an earlier winner; its arguments are those of `models.build`.

    Raises:
        InputError: A name is unknown, a file is missing or does not fit, or the backbone cannot take such images.
    """
    channels, height, width = image_shape
    if model.resize is not None:
        height = width = model.resize
    if isinstance(model.backbone, TrainedBackbone):
        backbone, features = trained_backbone(model.backbone, (channels, height, width), build)
        expand = False
    else:
        if channels not in (1, 3):
            raise InputError(f"model.backbone: {model.backbone} takes 3 channels (or 1, repeated), not {channels}")
        if model.backbone.startswith(PREFIX):
            backbone, features = timm_backbone(model.backbone, model.weights, (height, width))
        else:
            backbone, features = torchvision_backbone(model, height)
        expand = channels == 1
    inputs = Inputs(model.resize, expand)
    classifier = head(
        features, model.head, num_classes, model.activation, dropout_rate=model.dropout, dropout_place="inputs"
    )
    return Transferred(inputs, backbone, classifier, model.frozen, model.head_lr_factor)


class Transferred(nn.Module):
    """A backbone with a head. A frozen backbone has no gradients and stays in evaluation mode, so its norms keep their statistics."""

    def __init__(
        self, inputs: nn.Module, backbone: nn.Module, head: nn.Module, frozen: bool, head_lr_factor: float
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.backbone = backbone.requires_grad_(not frozen)
        self.head = head
        self.frozen = frozen
        self.head_lr_factor = head_lr_factor
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(self.inputs(images)))

    def train(self, mode: bool = True) -> Transferred:
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return two parameter groups: the backbone at `lr`, the head at `head_lr_factor * lr`."""
        return [
            {"params": list(self.backbone.parameters()), "lr": lr},
            {"params": list(self.head.parameters()), "lr": lr * self.head_lr_factor},
        ]


class Inputs(nn.Module):
    """Adapts images to the backbone: resizes them to `size` pixels per side, and repeats a single channel three times."""

    def __init__(self, size: int | None, expand: bool) -> None:
        super().__init__()
        self.size = size
        self.expand = expand

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None and images.shape[2:] != (self.size, self.size):
            shrinks = self.size < min(images.shape[2:])
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=shrinks)
        return images.expand(-1, 3, -1, -1) if self.expand else images
