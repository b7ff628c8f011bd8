"""Test-time augmentation: networks that average their outputs over several views of each image."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def with_views(model: nn.Module, flip: bool, shift: int) -> nn.Module:
    """Return the network that averages the logits of several views of each image: test-time augmentation.

    Args:
        model: The network, from images [N, C, H, W] to logits [N, K].
        flip: Whether the mirror image, left to right, is a view too.
        shift: Number of pixels by which two further views are shifted, up-left and down-right; 0 for none. Together
            they have the weight of the view that is not shifted. Below the height and width of the images.
    """
    if shift:
        model = ShiftedMean(model, shift)
    return MirroredMean(model) if flip else model


class MirroredMean(nn.Module):
    """The mean of the logits of each image [N, C, H, W] and of its mirror image, left to right."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (self.model(images) + self.model(images.flip(3))) / 2


class ShiftedMean(nn.Module):
    """The mean of the logits of each image [N, C, H, W], with weight 1/2, and of it shifted up-left and down-right, 1/4 each.

    The border is mirrored into the gap, as in airbench (Jordan, 2024).
    """

    def __init__(self, model: nn.Module, shift: int) -> None:
        super().__init__()
        self.model = model
        self.shift = shift

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shift, height, width = self.shift, images.shape[2], images.shape[3]
        padded = functional.pad(images, (shift,) * 4, "reflect")
        up_left = self.model(padded[:, :, 2 * shift : 2 * shift + height, 2 * shift : 2 * shift + width])
        down_right = self.model(padded[:, :, :height, :width])
        return self.model(images) / 2 + (up_left + down_right) / 4
