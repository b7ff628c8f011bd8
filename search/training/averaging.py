"""Averages of the weights over the steps of a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from winnow.spaces import schema


@dataclass
class WeightAverage:
    """The average of a network's weights and of the other floats in its state; other values are copied."""

    settings: schema.Averaging
    model: nn.Module
    total_steps: int
    average: dict[str, torch.Tensor]
    num_steps: int = 0
    num_updates: int = 0

    @staticmethod
    def start(settings: schema.Averaging, model: nn.Module, total_steps: int) -> WeightAverage:
        """Start an average from the initial weights.

        Args:
            settings: The `averaging` section of a config.
            model: The network, on its device.
            total_steps: Optimizer steps of the whole training.
        """
        return WeightAverage(settings, model, total_steps, _copied(model.state_dict()))

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step, and update the average after every `every` steps and after the last one."""
        self.num_steps += 1
        is_last = self.num_steps == self.total_steps
        if self.num_steps % self.settings.every and not is_last:
            return
        self.num_updates += 1
        decay, state = self._decay(), self.model.state_dict()
        for name, tensor in self.average.items():
            if tensor.is_floating_point():
                tensor.lerp_(state[name], 1 - decay)
            else:
                tensor.copy_(state[name])
            if isinstance(self.settings, schema.Lookahead):
                state[name].copy_(tensor)

    def _decay(self) -> float:
        if isinstance(self.settings, schema.Lookahead):
            return self.settings.decay * (self.num_steps / self.total_steps) ** 3
        return min(self.settings.decay, (1 + self.num_updates) / (10 + self.num_updates))

    def state(self) -> dict[str, Any]:
        """Return what `restore` reads."""
        return {"average": self.average, "num_steps": self.num_steps, "num_updates": self.num_updates}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.num_steps, self.num_updates = state["num_steps"], state["num_updates"]
        for name, tensor in self.average.items():
            tensor.copy_(state["average"][name])

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights of the network with the average; a second call exchanges them back."""
        for name, tensor in self.model.state_dict().items():
            own = tensor.clone()
            tensor.copy_(self.average[name])
            self.average[name].copy_(own)


def _copied(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
