"""Defines a first convolution with fixed weights that whiten the patches of the training images (Page, 2019; Jordan, 2024)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 5e-4
"""Added to the variance of each direction, so that directions without variance are not amplified."""

IMAGES_AT_ONCE = 100
"""Number of images whose patches are in memory at the same time. Each pixel is in many patches."""


class Whitening(nn.Module):
    """Whitens patches: maps images [N, C, H, W] to [N, 2 * C * kernel ** 2, H - kernel + 1, W - kernel + 1].

    The filters are the principal directions of the patches, divided by their standard deviation, each with both signs. They are a
    buffer, and only the bias is trained. Until `fit_images` is called, each filter copies one pixel.
    """

    weight: Tensor

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        directions = torch.eye(channels * kernel**2).view(-1, channels, kernel, kernel)
        self.register_buffer("weight", torch.cat([directions, -directions]))
        self.bias = nn.Parameter(torch.zeros(len(self.weight)))

    def forward(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weight, self.bias)

    @torch.no_grad()
    def fit_images(self, images: Tensor) -> None:
        """Compute the filters from the patches of images float32 [N, C, H, W], normalised as for training."""
        size = self.weight[0].numel()
        products, num = torch.zeros(size, size, dtype=torch.float64), 0
        for part in images.split(IMAGES_AT_ONCE):
            # In float64, which Apple's GPUs do not have.
            patches = F.unfold(part, self.weight.shape[2:]).transpose(1, 2).flatten(0, 1).cpu().double()
            products += patches.T @ patches
            num += len(patches)
        variances, vectors = torch.linalg.eigh(products / num)
        scaled = (vectors / (variances + EPSILON).sqrt()).T.flip(0)
        directions = scaled.reshape(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([directions, -directions]))
