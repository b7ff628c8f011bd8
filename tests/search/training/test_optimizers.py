"""Optimizers and losses: the registries are whole, and each does what its settings say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import REPOSITORY
from tests.helpers.tiny import CPU, schema_names, tiny_config
from winnow import models
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
    optimizer = build_optimizer(settings, hidden(ours) if name == "muon" else ours, CPU)
    expected = reference_optimizer(name, reference)
    for step in range(3):
        for model, one in ((ours, optimizer), (reference, expected)):
            one.zero_grad()
            model(torch.full((2, 3), 1.0 + step)).square().sum().backward()
            one.step()
    # torch's Muon computes in bfloat16, whose relative precision is 1/256.
    assert torch.allclose(ours.weight, reference.weight, rtol=1e-4, atol=1e-3 if name == "muon" else 1e-8)
    assert not torch.allclose(ours.weight, linear().weight, rtol=1e-2)


def hidden(layer: nn.Linear) -> nn.Module:
    """A network in which the layer is not the last linear one, which Muon leaves to AdamW."""
    return nn.Sequential(layer, nn.Linear(2, 2).requires_grad_(False))


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


def depths_of(network: nn.Module) -> dict[str, int]:
    """The depth of each parameter, by name: with a decay of one half, 0 for the first layer."""
    rates = {name: lr for name, (lr, _) in grouped(network, layer_decay=0.5).items()}
    return {name: round(math.log2(lr / min(rates.values()))) for name, lr in rates.items()}


def test_a_block_is_one_layer() -> None:
    """As in ELECTRA, BEiT and timm; its layers may be parallel."""
    import torchvision

    depths = depths_of(torchvision.models.vit_b_16(num_classes=10))
    assert {
        depths[f"encoder.layers.encoder_layer_3.{layer}"] for layer in ("self_attention.in_proj_weight", "mlp.0.weight")
    } == {4}
    assert (depths["conv_proj.weight"], depths["class_token"], depths["encoder.pos_embedding"]) == (0, 0, 0)
    assert (depths["encoder.ln.weight"], depths["heads.head.weight"]) == (12, 13)
    depths = depths_of(torchvision.models.resnet18())
    assert depths["layer2.0.conv1.weight"] == depths["layer2.0.downsample.0.weight"] == depths["layer2.0.bn2.bias"] == 3
    assert (depths["conv1.weight"], depths["layer4.1.conv2.weight"], depths["fc.weight"]) == (0, 8, 9)
    depths = depths_of(torchvision.models.convnext_tiny())
    assert len({depth for name, depth in depths.items() if name.startswith("features.1.")}) == 3
    depths = depths_of(torchvision.models.mobilenet_v3_small())  # its blocks contain squeeze-excitations
    assert len({depths[name] for name in depths if name.startswith("features.4.")}) == 1
    depths = depths_of(torchvision.models.googlenet(init_weights=False, aux_logits=False))
    assert len({depths[name] for name in depths if name.startswith("inception4a.")}) == 1


def test_layer_decay_of_our_own_families_counts_blocks() -> None:
    from winnow.models.convnext import ConvNextBlock
    from winnow.models.mixture import MixtureBlock
    from winnow.models.residual import ResidualBlock
    from winnow.models.vit import EncoderBlock

    seen = set()
    layers = {
        "vit": {"depth": 2},
        "convnext": {"stages": [{"filters": 8, "blocks": 2}, {"filters": 16, "blocks": 2}]},
        "residual": {"stages": [{"filters": 8, "blocks": 2}, {"filters": 16, "blocks": 2}]},
        "mixture": {"blocks": [{"filters": 8}, {"filters": 16}]},
    }
    for name, keys in layers.items():
        network = models.build(tiny_config(model={"name": name, **keys}).model, (3, 32, 32), 10)
        depths = depths_of(network)
        for place, block in network.named_modules():
            if isinstance(block, (ConvNextBlock, MixtureBlock, ResidualBlock, EncoderBlock)):
                seen.add(name)
                assert len({depth for weight, depth in depths.items() if weight.startswith(f"{place}.")}) == 1, place
    assert seen == layers.keys()


def test_scales_positions_and_tokens_are_no_matrices() -> None:
    """They have several dimensions in the networks of torchvision; Muon would make each step of a scale as large as a rate."""
    import torchvision

    for network, names in (
        (torchvision.models.vit_b_16(num_classes=10), {"class_token", "encoder.pos_embedding"}),
        (torchvision.models.convnext_tiny(), {"features.1.0.layer_scale"}),
        (torchvision.models.swin_t(), {"features.1.0.attn.relative_position_bias_table"}),
    ):
        decays = {name: decay for name, (_, decay) in grouped(network, decay_biases=False).items()}
        assert {decays[name] for name in names} == {0.0}
        settings = tiny_config(optimizer={"name": "muon", "lr": 0.1}).optimizer
        groups = build_optimizer(settings, network, CPU).param_groups
        orthogonal = {id(weight) for group in groups if group["orthogonal"] for weight in group["params"]}
        own = dict(network.named_parameters())
        assert orthogonal
        assert not orthogonal & {id(own[name]) for name in names}
        assert {name for name in own if own[name].ndim == 2 and "in_proj" in name} <= {
            name for name in own if id(own[name]) in orthogonal
        }


def test_muon_steps_norms_biases_and_the_last_layer_as_adamw() -> None:
    ours, reference = deep(), deep()
    reference.load_state_dict(ours.state_dict())
    settings = tiny_config(optimizer={"name": "muon", "lr": 0.1, "rest_lr": 0.01, "weight_decay": 0.1}).optimizer
    optimizer = build_optimizer(settings, ours, CPU)
    rest = {name: weight for name, weight in reference.named_parameters() if weight.ndim == 1 or name == "4.weight"}
    expected = torch.optim.AdamW(rest.values(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        for weight, other in zip(ours.parameters(), reference.parameters(), strict=True):
            weight.grad = torch.full_like(weight, 0.3)
            other.grad = weight.grad.clone()
        optimizer.step()
        expected.step()
    for (name, weight), other in zip(ours.named_parameters(), reference.parameters(), strict=True):
        assert torch.allclose(weight, other, atol=1e-6) == (name in rest), name
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
