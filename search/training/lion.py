"""Lion (Chen et al., 2023): steps of one length, in the direction of the sign of the momentum."""

from __future__ import annotations

from typing import Any

import torch


class Lion(torch.optim.Optimizer):
    """Lion with decoupled weight decay.

    Args:
        groups: Parameter groups with `params`, `lr`, `betas` and `weight_decay`.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"betas": groups[0]["betas"]})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step. `closure` is not supported."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"]
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.sub_(momentum.lerp(weight.grad, 1 - beta1).sign_(), alpha=group["lr"])
                momentum.lerp_(weight.grad, 1 - beta2)
