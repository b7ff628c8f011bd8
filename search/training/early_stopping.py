"""What the validation split decides during a training: which epoch's weights are kept, and when to stop early."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass
class KeptWeights:
    """CPU copies of the weights of the best epoch so far by `rule` (a value of `config.weights`); for `last`, none."""

    rule: str
    best: float = math.inf
    epoch: int = 0
    """0: none kept yet."""
    weights: dict[str, torch.Tensor] | None = None

    def observe(self, epoch: int, validation_loss: float, validation_accuracy: float, model: nn.Module) -> None:
        """Of equals the first is kept."""
        if self.rule == "last":
            return
        value = validation_loss if self.rule == "lowest_validation_loss" else -validation_accuracy
        if value < self.best:
            self.best, self.epoch = value, epoch
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


@dataclass
class EarlyStop:
    """Says stop once the loss has not been lower than its lowest for `patience` epochs."""

    patience: int
    best: float = math.inf
    num_bad: int = 0

    def observe(self, loss: float) -> bool:
        if loss < self.best:
            self.best, self.num_bad = loss, 0
        else:
            self.num_bad += 1
        return self.num_bad >= self.patience
