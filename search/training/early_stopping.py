"""Decides by the validation split during a training which weights are kept, and when to stop early."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from winnow.spaces.epoch_figures import to_minimize, weights_rules

Values = Mapping[str, float | None]
"""The values of an epoch by metric, a name of `winnow.spaces.epoch_figures.OBJECTIVES`."""


@dataclass
class BestWeights:
    """Keeps CPU copies of the weights of the best epoch so far by `rule`, a value of `config.weights`; none for `last`."""

    rule: str
    best: float = math.inf
    epoch: int = 0
    """The epoch of the weights; 0: none yet."""
    weights: dict[str, torch.Tensor] | None = None

    def observe(self, epoch: int, values: Values, model: nn.Module) -> None:
        """Copy the model's weights if this epoch is better than all earlier ones.

        Args:
            epoch: The epoch, counted from 1.
            values: The values of the epoch by metric, including that of the rule.
            model: The network after the epoch.
        """
        if self.rule == "last":
            return
        value = to_minimize(weights_rules()[self.rule], values)
        if value < self.best:
            self.best, self.epoch = value, epoch
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}


@dataclass
class EarlyStopping:
    """Counts the epochs since the best value of a metric."""

    patience: int
    min_delta: float = 0.0
    metric: str = "validation_loss"
    best: float = math.inf
    num_bad: int = 0

    def observe(self, values: Values) -> bool:
        """Record the values of an epoch, and return whether the training should stop.

        It should stop if none of the last `patience` epochs improved on the best value by more than `min_delta`.
        """
        value = to_minimize(self.metric, values)
        if value < self.best - self.min_delta:
            self.best, self.num_bad = value, 0
        else:
            self.num_bad += 1
        return self.num_bad >= self.patience
