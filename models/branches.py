"""Parts of the branches of residual blocks: squeeze-and-excitation, layer scale, stochastic depth."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


class SqueezeExcitation(nn.Module):
    """Weight the channels of [N, C, H, W] by a small network of their means (Hu et al., 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.weights = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return images * self.weights(images.mean((2, 3)))[:, :, None, None]


class LayerScale(nn.Module):
    """Multiply each channel of [N, C, H, W] by a trained factor (Touvron et al., 2021)."""

    def __init__(self, channels: int, initial: float) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.full((channels,), initial))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factors[:, None, None]


def skip_probabilities(last: float, num_blocks: int) -> Iterator[float]:
    """Yield the probability of stochastic depth for each block: it rises linearly to `last` (Huang et al., 2016).

    Args:
        last: Probability of the last block, in [0, 1].
        num_blocks: Number of blocks.
    """
    return (last * block / num_blocks for block in range(1, num_blocks + 1))


def survivors(branch: Tensor, skip_probability: float, training: bool) -> Tensor:
    """Apply stochastic depth: in training, set the branch of some images to zero, and scale the others so that the mean is unchanged.

    Args:
        branch: Output of a block's branch, [N, ...].
        skip_probability: Probability in [0, 1) that an image skips the branch.
        training: Whether the network is in training; otherwise the branch is returned unchanged.

    Returns:
        The branch, [N, ...].
    """
    if not training or skip_probability == 0:
        return branch
    kept = torch.rand(len(branch), *[1] * (branch.ndim - 1), device=branch.device) >= skip_probability
    return branch * (kept / (1 - skip_probability)).to(branch.dtype)
