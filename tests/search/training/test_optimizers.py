"""Optimizers and losses: the registries are whole, and each does what its settings say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.helpers.tiny import CPU, schema_names, tiny_config
from winnow.search.training.losses import LOSSES, build_evaluation_loss, build_loss
from winnow.search.training.optimizers import OPTIMIZERS, build_optimizer
from winnow.spaces import schema

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "adamw": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "rmsprop": {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "weight_decay": 0.1},
}


def test_the_registries_hold_what_the_schema_names() -> None:
    assert set(OPTIMIZERS) == schema_names(schema.Optimizer) == set(SETTINGS)
    assert set(LOSSES) == schema_names(schema.Loss)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_setting_reaches_torch(name: str) -> None:
    """Three steps beside torch's own plain implementation, with these settings."""
    settings = tiny_config(optimizer={"name": name, **SETTINGS[name]}).optimizer
    ours, reference = linear(), linear()
    optimizer = build_optimizer(settings, ours, CPU)
    expected = reference_optimizer(name, reference)
    for step in range(3):
        for model, one in ((ours, optimizer), (reference, expected)):
            one.zero_grad()
            model(torch.full((2, 3), 1.0 + step)).square().sum().backward()
            one.step()
    assert torch.allclose(ours.weight, reference.weight, rtol=1e-4)
    assert not torch.allclose(ours.weight, linear().weight, rtol=1e-2)


def linear() -> nn.Linear:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).view(2, 3) / 10)
        model.bias.fill_(0.5)
    return model


def reference_optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    values = dict(SETTINGS[name])
    if name in ("adam", "adamw"):
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    kind = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    return kind[name](model.parameters(), foreach=False, **values)


def test_a_model_may_state_its_own_groups() -> None:
    class Transfer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = nn.Linear(3, 3), nn.Linear(3, 2)

        def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
            slow = {"params": list(self.backbone.parameters()), "lr": lr / 10}
            return [slow, {"params": list(self.head.parameters()), "lr": lr}]

    optimizer = build_optimizer(schema.Sgd(name="sgd", lr=0.5), Transfer(), CPU)
    assert [group["lr"] for group in optimizer.param_groups] == [0.05, 0.5]


def test_frozen_parameters_are_left_out() -> None:
    model = linear()
    model.bias.requires_grad_(False)
    optimizer = build_optimizer(schema.Adam(name="adam", lr=0.5), model, CPU)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 1


def test_cross_entropy_by_hand() -> None:
    logits, labels = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]]), torch.tensor([0, 1])
    probabilities = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(1, keepdims=True)
    plain = -np.log(probabilities[[0, 1], [0, 1]]).mean()
    smooth = 0.9 * plain - 0.1 * np.log(probabilities).mean()
    settings = schema.CrossEntropy(label_smoothing=0.1)
    assert float(build_loss(settings)(logits, labels)) == pytest.approx(smooth, rel=1e-5)
    assert float(build_evaluation_loss(settings)(logits, labels)) == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize(("p", "margin"), [(1, 1.0), (2, 1.0), (1, 0.5)])
def test_margin_by_hand(p: int, margin: float) -> None:
    logits, label = torch.tensor([[1.0, 0.7, 3.0]]), 0
    terms = [max(0.0, margin - 1.0 + 0.7) ** p, max(0.0, margin - 1.0 + 3.0) ** p]
    settings = tiny_config(loss={"name": "margin", "p": p, "margin": margin}).loss
    assert float(build_loss(settings)(logits, torch.tensor([label]))) == pytest.approx(sum(terms) / 3)
