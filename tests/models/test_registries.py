"""Every entry of every registry of `models/`: names as in the schema, right width, a gradient for every parameter."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from winnow.models import MODELS, build, summarize
from winnow.models.layers import ACTIVATIONS, INITIALIZATIONS, NORMS, POOLS
from winnow.models.mixture import MIXINGS
from winnow.spaces import schema
from winnow.spaces.shapes import trace

IMAGES = (3, 16, 12)  # not square: height and width must not be mixed up
CLASSES = 7

# The smallest config of each family that uses what it has.
FAMILIES: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": [12, 9]},
    "cnn": {"name": "cnn", "stages": [{"filters": 4}, {"filters": 6, "kernel": 2, "stride": 2}], "head": [8]},
    "residual": {
        "name": "residual",
        "stem": 4,
        "stages": [{"blocks": 2, "filters": 4}, {"blocks": 1, "filters": 8, "stride": 2, "pool": "max"}],
        "head": [8],
    },
    "mixture": {"name": "mixture", "blocks": [{"filters": 4}, {"filters": 4, "pool": "none"}], "head": [8]},
    "convnext": {
        "name": "convnext",
        "stages": [{"blocks": 2, "filters": 4}, {"blocks": 1, "filters": 6, "kernel": 2}],
    },
    "vit": {"name": "vit", "patch": 2, "width": 8, "depth": 2, "heads": 2},
    "transfer": {"name": "transfer", "backbone": "squeezenet1_1", "resize": 32, "head": [8]},
    "custom": {"name": "tests.models.test_registries:tiny", "width": 5},
}

VARIANTS: list[dict[str, Any]] = [
    *FAMILIES.values(),
    {"name": "mlp", "hidden": []},
    {**FAMILIES["mlp"], "norm": "batch", "dropout": 0.2},
    *({**FAMILIES["cnn"], "activation": name} for name in ACTIVATIONS),
    *({**FAMILIES["cnn"], "init": name} for name in INITIALIZATIONS),
    *(
        {**FAMILIES["cnn"], "norm": "batch", "norm_place": place}
        for place in ("after_conv", "after_activation", "after_pool")
    ),
    *({**FAMILIES["cnn"], "stages": [{"filters": 4, "pool": name, "pool_size": 3}]} for name in POOLS),
    *({**FAMILIES["cnn"], "stages": [{"filters": 4, "kernel": k, "stride": s}]} for k in (1, 4, 5) for s in (1, 2, 3)),
    *({**FAMILIES["cnn"], "stages": [{"filters": 4, "kernel": 4, "padding": p}]} for p in (0, 2)),
    *({**FAMILIES["cnn"], "dropout": 0.3, "dropout_place": place} for place in ("hidden", "last")),
    *({**FAMILIES["cnn"], "norm": name, "head_norm": name} for name in NORMS),
    {**FAMILIES["cnn"], "whitening": 2, "pool_place": "after_conv", "norm": "batch", "logits_scale": 0.5},
    {**FAMILIES["cnn"], "features": "avg", "head_norm": "batch", "stage_dropout": 0.1},
    *({**FAMILIES[name], "features": "max", "norm": "batch", "norm_gain": False} for name in ("cnn", "residual")),
    {**FAMILIES["residual"], "norm_place": "after_activation", "groups": 2, "scale": 0.1, "features": "flatten"},
    {**FAMILIES["residual"], "norm": "none", "skip": False},
    {**FAMILIES["residual"], "stochastic_depth": 0.2, "squeeze": 4, "norm": "group"},
    *({**FAMILIES["cnn"], "stages": [{"filters": 4, "kernel": k, "stride": 2, "separable": True}]} for k in (2, 3)),
    {**FAMILIES["cnn"], "stages": [{"filters": 4}, {"filters": 6, "separable": True, "squeeze": 2}], "norm": "batch"},
    {**FAMILIES["residual"], "separable": True, "squeeze": 2},
    {**FAMILIES["residual"], "separable": True, "norm": "none"},
    {**FAMILIES["residual"], "logits_norm": "batch", "head_norm": "batch", "dropout": 0.2, "dropout_place": "last"},
    *({**FAMILIES["mixture"], "mixing": name, "dropout": 0.1} for name in MIXINGS),
    {**FAMILIES["mixture"], "norm": "none", "convs": 1, "mixing": "sigmoid"},
    {**FAMILIES["convnext"], "patch": 1, "expansion": 2, "layer_scale": None, "stochastic_depth": 0.2, "dropout": 0.1},
    {**FAMILIES["vit"], "features": "class_token", "mlp_ratio": 1.5, "stochastic_depth": 0.2, "dropout": 0.1},
    {**FAMILIES["vit"], "patch": 4, "heads": 4, "depth": 1, "activation": "silu", "init": "default"},
]


def parse(raw: dict[str, Any]) -> schema.Model:
    model: schema.Model = TypeAdapter(schema.Model).validate_python(raw)
    return model


class Tiny(nn.Sequential):
    pass


def tiny(image_shape: tuple[int, int, int], num_classes: int, width: int) -> nn.Module:
    return Tiny(
        nn.Conv2d(image_shape[0], width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
    )


def options(annotation: Any) -> set[str]:
    return set(get_args(annotation))


def test_registries_have_the_names_of_the_schema() -> None:
    assert set(ACTIVATIONS) == options(schema.Activation)
    assert set(INITIALIZATIONS) == options(schema.Initialization)
    assert set(NORMS) == options(schema.Norm)
    assert set(POOLS) == options(schema.Pool)
    assert set(MIXINGS) == options(schema.Mixture.model_fields["mixing"].annotation)
    tags = {get_args(member)[1].tag for member in get_args(get_args(schema.Model)[0])}
    assert set(MODELS) == tags == set(FAMILIES)


@pytest.mark.parametrize("raw", VARIANTS, ids=str)
def test_width_gradients_and_shapes(raw: dict[str, Any]) -> None:
    model = parse(raw)
    without: set[str] | None = None
    for seed in range(3):  # a ReLU may be silent for one draw of the weights, not for three
        torch.manual_seed(seed)
        network = build(model, IMAGES, CLASSES)
        seen = output_shapes(network)
        logits = network(torch.randn(6, *IMAGES))
        assert logits.shape == (6, CLASSES)
        nn.functional.cross_entropy(logits, torch.arange(6)).backward()
        trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
        silent = {name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()}
        without = silent if without is None else without & silent
    assert without == set()
    for name, shape in trace(model, IMAGES, CLASSES):
        assert seen[module_name(raw["name"], name)] == shape, name


@pytest.mark.parametrize("raw", VARIANTS, ids=str)
def test_summary_counts_what_is_built(raw: dict[str, Any]) -> None:
    model = parse(raw)
    state = torch.get_rng_state()
    summary = summarize(model, IMAGES, CLASSES)
    assert torch.equal(torch.get_rng_state(), state), "a summary draws from no generator"
    weights = list(build(model, IMAGES, CLASSES).parameters())
    assert summary.num_parameters == sum(weight.numel() for weight in weights)
    assert summary.num_parameters == sum(layer.num_parameters for layer in summary.layers)
    assert summary.multiply_adds == sum(layer.multiply_adds for layer in summary.layers) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_depend_on_the_global_seed_alone(family: str) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(parse(FAMILIES[family]), IMAGES, CLASSES).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("scheme", [name for name in INITIALIZATIONS if name != "default"])
@pytest.mark.parametrize("family", ["mlp", "cnn", "residual", "mixture", "convnext", "vit"])
def test_named_schemes_zero_every_bias(family: str, scheme: str) -> None:
    network = build(parse({**FAMILIES[family], "init": scheme}), IMAGES, CLASSES)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert all(layer.bias is None or not layer.bias.any() for layer in layers)
    assert all(layer.weight.std() > 0 for layer in layers)


# Standard deviation of the weights of a linear layer 300 -> 200, by the papers' formulas.
SPREADS = {
    "kaiming_normal": (2 / 300) ** 0.5,  # He et al., 2015: gain sqrt(2), fan in
    "kaiming_uniform": (2 / 300) ** 0.5,
    "xavier_normal": (2 / 500) ** 0.5,  # Glorot & Bengio, 2010: fan in + fan out
    "xavier_uniform": (2 / 500) ** 0.5,
    "orthogonal": (1 / 300) ** 0.5,  # 200 orthonormal rows of 300 entries
    "default": (1 / 3 / 300) ** 0.5,  # PyTorch: uniform within 1 / sqrt(fan in)
    "dirac": (1 / 3 / 300) ** 0.5,  # of linear layers as by default
    "normal": 0.02,
}


@pytest.mark.parametrize("scheme", INITIALIZATIONS)
def test_spread_of_the_weights(scheme: str) -> None:
    torch.manual_seed(0)
    network = build(parse({"name": "mlp", "hidden": [200], "init": scheme}), (3, 10, 10), CLASSES)
    weight = network.get_parameter("head.hidden.0.linear.weight")
    # 60,000 draws: the deviation of the estimate is under 0.3 %; 3 % is ten of them.
    assert weight.std().item() == pytest.approx(SPREADS[scheme], rel=0.03)


def output_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Filled by the next forward pass: each module's output shape without the batch."""
    shapes: dict[str, tuple[int, ...]] = {}

    def record(name: str) -> Any:
        return lambda module, inputs, output: shapes.__setitem__(name, tuple(output.shape[1:]))

    for name, module in network.named_modules():
        module.register_forward_hook(record(name))
    return shapes


def module_name(family: str, layer: str) -> str:
    """Where the network keeps a layer of `winnow.spaces.shapes.trace`."""
    parts = layer.split(".")
    if layer == "classes":
        return "head.classes"
    if layer == "flatten":
        return "features"
    if parts[0] in ("hidden", "head"):
        return f"head.hidden.{parts[1]}.linear"
    return layer.replace(".conv", ".block") if family == "mixture" else layer
