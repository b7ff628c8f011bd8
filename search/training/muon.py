"""Muon (Jordan et al., 2024): orthogonalized momentum for weights that are matrices, AdamW for the rest."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon for parameter groups whose `orthogonal` is true, AdamW for the others, in one optimizer with one state.

    A weight with more than two dimensions counts as a matrix [first dimension, all others]. Its step is scaled by
    sqrt(max(1, rows / columns)), as in `torch.optim.Muon`.

    Args:
        groups: Parameter groups with `params`, `orthogonal`, `lr`, `momentum`, `betas`, `eps` and `weight_decay`.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"momentum": groups[0]["momentum"]})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step. `closure` is not supported."""
        for group in self.param_groups:
            for weight in group["params"]:
                gradient = weight.grad
                if gradient is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    update = self._orthogonal if group["orthogonal"] else self._adamw
                    weight.sub_(update(weight, gradient, group), alpha=group["lr"])

    def _orthogonal(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(momentum, group["momentum"]).flatten(1)
        scale = math.sqrt(max(1.0, matrix.shape[0] / matrix.shape[1]))
        return orthogonalized(matrix).mul_(scale).view(weight.shape)

    def _adamw(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state = self.state[weight]
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        state["step"] += 1
        beta1, beta2 = group["betas"]
        mean = state["mean"].lerp_(gradient, 1 - beta1)
        square = state["square"].lerp_(gradient.square(), 1 - beta2)
        num_steps = state["step"].item()  # on the CPU, so nothing waits
        root = (square / (1 - beta2**num_steps)).sqrt_().add_(group["eps"])
        return mean / (1 - beta1**num_steps) / root


def orthogonalized(matrix: Tensor) -> Tensor:
    """Approximate the nearest matrix [rows, columns] with equal singular values by Newton-Schulz; they end up in about [0.7, 1.2]."""
    a, b, c = COEFFICIENTS
    result = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    result = result / result.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return (result.T if matrix.shape[0] > matrix.shape[1] else result).contiguous()
