"""The ensemble of several networks as one network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


class MeanOfProbabilities(nn.Module):
    """Several networks from images [N, C, H, W] to logits, as one: the softmax of its outputs is the mean of theirs."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logarithms = [network(images).log_softmax(1) for network in self.networks]
        return torch.stack(logarithms).logsumexp(0) - math.log(len(self.networks))
