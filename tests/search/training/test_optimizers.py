"""Optimizers and losses: the registries are whole, and each does what its settings say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import REPOSITORY
from tests.helpers.tiny import CPU, schema_names, tiny_config
from winnow.search.training.losses import LOSSES, build_evaluation_loss, build_loss
from winnow.search.training.muon import orthogonalized
from winnow.search.training.optimizers import OPTIMIZERS, build_optimizer
from winnow.spaces import schema

SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "adam": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "adamw": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "nadam": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1, "momentum_decay": 0.1},
    "radam": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1, "decoupled_decay": True},
    "adamax": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1},
    "adagrad": {"lr": 0.01, "lr_decay": 0.1, "eps": 1e-6, "weight_decay": 0.1},
    "adadelta": {"lr": 0.5, "rho": 0.8, "eps": 1e-5, "weight_decay": 0.1},
    "adafactor": {"lr": 0.05, "beta2_decay": -0.5, "clip": 1.5, "weight_decay": 0.1},
    "asgd": {"lr": 0.05, "lambd": 0.2, "alpha": 0.5, "weight_decay": 0.1},
    "lion": {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "weight_decay": 0.1},
    "rmsprop": {"lr": 0.01, "alpha": 0.9, "eps": 1e-6, "momentum": 0.5, "weight_decay": 0.1},
    "muon": {"lr": 0.01, "momentum": 0.8, "weight_decay": 0.1},
}


def test_the_registries_hold_what_the_schema_names() -> None:
    assert set(OPTIMIZERS) == schema_names(schema.BuiltInOptimizer) == set(SETTINGS)
    assert set(LOSSES) == schema_names(schema.BuiltInLoss)


def test_every_optimizer_of_torch_has_a_name_or_a_reason() -> None:
    """The reasons are in docs/how-to/own-optimizer.md."""
    kinds = [getattr(torch.optim, name) for name in torch.optim.__all__]
    of_torch = {
        kind.__name__.lower() for kind in kinds if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
    }
    assert of_torch - OPTIMIZERS.keys() == {"optimizer", "lbfgs", "rprop", "sparseadam"}
    page = (REPOSITORY / "docs" / "how-to" / "own-optimizer.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in page for name in ("LBFGS", "Rprop", "SparseAdam"))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "lion"])  # torch has no Lion
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
    # torch's Muon computes in bfloat16, whose relative precision is 1/256.
    assert torch.allclose(ours.weight, reference.weight, rtol=1e-4, atol=1e-3 if name == "muon" else 1e-8)
    assert not torch.allclose(ours.weight, linear().weight, rtol=1e-2)


def linear() -> nn.Linear:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(6.0).view(2, 3) / 10)
        model.bias.fill_(0.5)
    return model


def reference_optimizer(name: str, model: nn.Module) -> torch.optim.Optimizer:
    values = dict(SETTINGS[name])
    if name == "muon":
        return torch.optim.Muon([model.weight], **values)
    if "beta1" in values:
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
    if "decoupled_decay" in values:
        values["decoupled_weight_decay"] = values.pop("decoupled_decay")
    if "clip" in values:
        values["d"] = values.pop("clip")
    kind = {
        "adadelta": torch.optim.Adadelta,
        "adafactor": torch.optim.Adafactor,
        "asgd": torch.optim.ASGD,
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "nadam": torch.optim.NAdam,
        "radam": torch.optim.RAdam,
        "adamax": torch.optim.Adamax,
        "adagrad": torch.optim.Adagrad,
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


def grouped(network: nn.Module, **keys: Any) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) of each parameter, by name, with an `lr` of 1."""
    settings = tiny_config(optimizer={"name": "sgd", "lr": 1.0, "weight_decay": 0.5, **keys}).optimizer
    names = {id(weight): name for name, weight in network.named_parameters()}
    groups = build_optimizer(settings, network, CPU, batch_size=256).param_groups
    return {names[id(w)]: (group["lr"], group["weight_decay"]) for group in groups for w in group["params"]}


def deep() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(4, 2))


def test_no_decay_of_norms_and_biases() -> None:
    decays = {name: decay for name, (_, decay) in grouped(deep(), decay_biases=False).items()}
    assert decays == {name: 0.5 if name in ("0.weight", "2.weight", "4.weight") else 0.0 for name in decays}
    assert {decay for _, decay in grouped(deep()).values()} == {0.5}


def test_own_rates_of_head_norms_and_depths() -> None:
    assert {name for name, (lr, _) in grouped(deep(), head_lr_factor=3.0).items() if lr == 3} == {"4.weight", "4.bias"}
    assert {name for name, (lr, _) in grouped(deep(), norm_bias_lr_factor=8.0).items() if lr == 8} == {"1.bias"}
    by_depth = {name: lr for name, (lr, _) in grouped(deep(), layer_decay=0.5).items()}
    assert by_depth["0.weight"] == by_depth["1.bias"] == 0.25  # a norm goes with the layer before it
    assert (by_depth["2.weight"], by_depth["4.bias"]) == (0.5, 1.0)


def test_muon_steps_norms_and_biases_as_adamw() -> None:
    ours, reference = deep(), deep()
    reference.load_state_dict(ours.state_dict())
    settings = tiny_config(optimizer={"name": "muon", "lr": 0.1, "rest_lr": 0.01, "weight_decay": 0.1}).optimizer
    optimizer = build_optimizer(settings, ours, CPU)
    biases = [weight for weight in reference.parameters() if weight.ndim == 1]
    expected = torch.optim.AdamW(biases, lr=0.01, weight_decay=0.1)
    for _ in range(3):
        for weight, other in zip(ours.parameters(), reference.parameters(), strict=True):
            weight.grad = torch.full_like(weight, 0.3)
            other.grad = weight.grad.clone()
        optimizer.step()
        expected.step()
    for weight, other in zip(ours.parameters(), reference.parameters(), strict=True):
        assert torch.allclose(weight, other, atol=1e-6) == (weight.ndim == 1)
    values = torch.linalg.svdvals(orthogonalized(torch.randn(8, 20, generator=torch.Generator().manual_seed(0))))
    assert ((values > 0.5) & (values < 1.4)).all()


def test_lion_by_hand() -> None:
    model = linear()
    settings = tiny_config(optimizer={"name": "lion", **SETTINGS["lion"]}).optimizer
    optimizer = build_optimizer(settings, model, CPU)
    weight, momentum = model.bias.detach().clone(), torch.zeros(2)
    for gradient in (torch.tensor([0.3, -0.2]), torch.tensor([-0.01, 0.5]), torch.tensor([-0.9, 0.0])):
        model.bias.grad = gradient.clone()
        optimizer.step()
        weight = weight * (1 - 0.01 * 0.1) - 0.01 * torch.sign(0.8 * momentum + 0.2 * gradient)
        momentum = 0.95 * momentum + 0.05 * gradient
        assert torch.allclose(model.bias, weight, atol=1e-7)


@pytest.mark.parametrize("batch_size", [64, 1024])
def test_decoupled_settings_mean_the_same_at_any_batch_size(batch_size: int) -> None:
    keys = {"lr": 10.0, "momentum": 0.85, "weight_decay": 0.2, "decoupled": True}
    settings = tiny_config(optimizer={"name": "sgd", **keys}).optimizer
    (group,) = build_optimizer(settings, linear(), CPU, batch_size).param_groups
    steps = 1024 / batch_size
    assert group["momentum"] ** steps == pytest.approx(0.85)
    # What one gradient moves in all, per image; and the decay of all the steps for 1,024 images.
    assert group["lr"] / (1 - group["momentum"]) * steps == pytest.approx(10.0)
    assert group["lr"] / (1 - group["momentum"]) * group["weight_decay"] * steps == pytest.approx(0.2)


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
