"""What the families compute: order of layers, padding, dropout, residual scale, mixtures."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import nn

from winnow.models import build, fit_images, parameter_groups
from winnow.models.branches import survivors
from winnow.models.layers import conv, norm_2d
from winnow.models.mixture import MIXINGS, MixedConv2d, mix_inputs, mix_kernels
from winnow.models.residual import ResidualBlock
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Model

torch.set_num_threads(1)


def make(shape: tuple[int, int, int] = (3, 16, 16), **raw: Any) -> nn.Module:
    return build(TypeAdapter(Model).validate_python(raw), shape, 5)


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if next(layer.children(), None) is None]


@given(size=st.integers(1, 20), kernel=st.integers(1, 7), stride=st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_same_padding_divides_the_size_by_the_stride(size: int, kernel: int, stride: int) -> None:
    layer = conv(1, 1, kernel, "same", stride)
    assert layer(torch.zeros(1, 1, size, size)).shape[2:] == (-(-size // stride),) * 2


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5, 6])
def test_same_padding_is_that_of_torch(kernel: int) -> None:
    ours, theirs = conv(2, 3, kernel), nn.Conv2d(2, 3, kernel, padding="same")
    theirs.load_state_dict(ours.state_dict())
    images = torch.randn(2, 2, 9, 7)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize(
    ("place", "order"),
    [
        ("after_conv", ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]),
        ("after_activation", ["Conv2d", "ReLU", "BatchNorm2d", "MaxPool2d"]),
        ("after_pool", ["Conv2d", "ReLU", "MaxPool2d", "BatchNorm2d"]),
    ],
)
def test_cnn_norm_place(place: str, order: list[str]) -> None:
    network = make(name="cnn", stages=[{"filters": 4}], norm="batch", norm_place=place)
    stage = network.get_submodule("stages.0")
    assert kinds(stage) == order
    assert (network.get_submodule("stages.0.conv").bias is None) == (place == "after_conv")


def test_norm_after_pool_without_a_pool() -> None:
    network = make(name="cnn", stages=[{"filters": 4, "pool": "none"}], norm="batch", norm_place="after_pool")
    assert kinds(network.get_submodule("stages.0")) == ["Conv2d", "ReLU", "BatchNorm2d"]


@pytest.mark.parametrize(
    ("place", "order"),
    [
        ("hidden", ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]),
        ("last", ["Linear", "ReLU", "Linear", "ReLU", "Dropout", "Linear"]),
    ],
)
def test_dropout_place(place: str, order: list[str]) -> None:
    network = make(name="cnn", stages=[{"filters": 4}], head=[8, 6], dropout=0.5, dropout_place=place)
    assert kinds(network.get_submodule("head")) == order


def test_mlp_order() -> None:
    network = make(name="mlp", hidden=[8], norm="batch", dropout=0.1, activation="elu")
    assert kinds(network) == ["Flatten", "Linear", "BatchNorm1d", "ELU", "Dropout", "Linear"]


def test_stage_dropout_drops_whole_channels() -> None:
    torch.manual_seed(0)
    stages = [{"filters": 64, "pool": "none"}]
    network = make(name="cnn", stages=stages, stage_dropout=0.5, activation="elu")
    maps = network.get_submodule("stages")(torch.randn(1, 3, 16, 16))[0].flatten(1)  # [64, 256]
    dropped = (maps == 0).all(dim=1)
    assert 0 < dropped.sum() < 64
    assert (maps[~dropped] != 0).all()


# --- residual -----------------------------------------------------------------------------------------------------


def residual(**other: Any) -> nn.Module:
    return make(name="residual", stem=4, stages=[{"blocks": 2, "filters": 4}, {"blocks": 1, "filters": 6}], **other)


def test_block_adds_scaled_branch_to_the_input() -> None:
    block = residual(scale=0.1).get_submodule("stages.0.blocks.0").eval()
    images = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(images), images + 0.1 * block.get_submodule("branch")(images))


def test_branch_order_is_published() -> None:
    unit = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds(residual().get_submodule("stages.0.blocks.0.branch")) == unit * 2
    late = residual(norm_place="after_activation").get_submodule("stages.0.blocks.0.branch")
    assert kinds(late) == ["Conv2d", "ReLU", "BatchNorm2d"] * 2


def test_projection_only_where_width_or_size_changes() -> None:
    network = residual()
    assert kinds(network.get_submodule("stages.0.blocks.1.shortcut")) == ["Identity"]
    assert kinds(network.get_submodule("stages.1.blocks.0.shortcut")) == ["Conv2d", "BatchNorm2d"]


def test_without_skip_there_is_the_branch_alone() -> None:
    block = residual(skip=False, scale=0.1).get_submodule("stages.1.blocks.0").eval()
    assert isinstance(block, ResidualBlock)
    images = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(block(images), block.branch(images))


def test_logits_norm_is_last() -> None:
    assert kinds(residual(logits_norm="batch", head=[8]).get_submodule("head")) == [
        "Linear",
        "ReLU",
        "Linear",
        "BatchNorm1d",
    ]


def test_groups_must_divide_every_width() -> None:
    with pytest.raises(ValidationError, match=r"multiple of groups=3.*\[4, 4, 6\]"):
        residual(groups=3)
    assert residual(groups=2).get_parameter("stages.0.blocks.0.branch.0.weight").shape == (4, 2, 3, 3)


def test_separable_convolutions_are_a_filter_for_each_channel_and_a_1x1_convolution() -> None:
    separable = residual(separable=True)
    weights = dict(separable.get_submodule("stages.1.blocks.0.branch").named_parameters())
    convs = {name: tuple(weight.shape) for name, weight in weights.items() if weight.ndim == 4}
    assert convs == {
        "0.depthwise.weight": (4, 1, 3, 3),
        "0.pointwise.weight": (6, 4, 1, 1),
        "3.depthwise.weight": (6, 1, 3, 3),
        "3.pointwise.weight": (6, 6, 1, 1),
    }
    with pytest.raises(ValidationError, match="separable needs groups: 1, but got 2"):
        residual(separable=True, groups=2)


# --- convnext and vit -----------------------------------------------------------------------------------------------


def test_convnext_block_is_that_of_the_paper() -> None:
    """Against torchvision's block with the same weights."""
    from torchvision.models.convnext import CNBlock

    network = make(name="convnext", stages=[{"blocks": 1, "filters": 6}], layer_scale=0.5)
    ours = network.get_submodule("stages.0.blocks.0")
    theirs = CNBlock(6, layer_scale=0.5, stochastic_depth_prob=0.0)
    weights = list(ours.state_dict().values())
    names = [name for name in theirs.state_dict() if name != "layer_scale"] + ["layer_scale"]
    theirs.load_state_dict(
        {name: weight.view_as(theirs.state_dict()[name]) for name, weight in zip(names, weights, strict=True)}
    )
    images = torch.randn(2, 6, 9, 7)
    torch.testing.assert_close(ours(images), theirs(images))


@pytest.mark.parametrize("features", ["class_token", "avg"])
def test_vit_is_that_of_the_paper(features: str) -> None:
    """Against torchvision's encoder with the same weights, epsilon included."""
    from torchvision.models import VisionTransformer

    network = make(name="vit", patch=4, width=8, depth=2, heads=2, features=features)
    if features == "avg":
        tokens = network.get_submodule("tokens")(network.get_submodule("patches")(torch.randn(2, 3, 16, 16)))
        encoded = network.get_submodule("norm")(network.get_submodule("blocks")(tokens))
        torch.testing.assert_close(network.get_submodule("features")(encoded), encoded.mean(1))
        return
    theirs = VisionTransformer(16, 4, 2, 2, 8, 32, num_classes=5, norm_layer=partial(nn.LayerNorm, eps=1e-5))
    ours = network.state_dict()
    moved = {
        "class_token": ours.pop("tokens.class_token"),
        "encoder.pos_embedding": ours.pop("tokens.positions"),
        "conv_proj.weight": ours.pop("patches.weight"),
        "conv_proj.bias": ours.pop("patches.bias"),
    }
    names = [name for name in theirs.state_dict() if name not in moved]
    state = {**moved, **dict(zip(names, ours.values(), strict=True))}
    theirs.load_state_dict({name: value.view_as(theirs.state_dict()[name]) for name, value in state.items()})
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(network(images), theirs(images))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValidationError, match="width must be a multiple of heads=3, but got 128"):
        make(name="vit", heads=3)


# --- mixture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mixing", MIXINGS)
@pytest.mark.parametrize("size", [4, 13])  # below and above the size from which kernels are mixed
def test_mixture_is_the_weighted_sum_of_its_convolutions(mixing: str, size: int) -> None:
    torch.manual_seed(0)
    layer = MixedConv2d(3, 5, 3, mixing)
    images = torch.randn(4, 3, size, size)
    for n in range(4):
        shares = MIXINGS[mixing](layer.mixer(images[n : n + 1].mean(dim=(2, 3))))[0]
        expected = sum(share * one(images[n]) for share, one in zip(shares, layer.convs, strict=True))
        torch.testing.assert_close(layer(images)[n], expected, rtol=1e-4, atol=1e-5)


@given(n=st.integers(1, 4), k=st.integers(1, 4), i=st.integers(1, 5), o=st.integers(1, 5), size=st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_both_ways_of_mixing_agree(n: int, k: int, i: int, o: int, size: int) -> None:
    generator = torch.Generator().manual_seed(n + 10 * k + 100 * i)
    images = torch.randn(n, i, size, size + 1, generator=generator, dtype=torch.float64)
    shares = torch.randn(n, k, generator=generator, dtype=torch.float64)
    kernels = torch.randn(k, o, i, 3, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mix_inputs(images, shares, kernels), mix_kernels(images, shares, kernels))


def test_softmax_shares_sum_to_one() -> None:
    logits = torch.randn(6, 3)
    torch.testing.assert_close(MIXINGS["softmax"](logits).sum(dim=1), torch.ones(6))


def test_mixture_block_order() -> None:
    network = make(name="mixture", blocks=[{"filters": 8}], dropout=0.5, head=[6])
    assert kinds(network.get_submodule("blocks.0.block.after")) == ["BatchNorm2d", "ReLU"]
    assert kinds(network.get_submodule("head")) == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"name": "cnn", "stages": [{"filters": 2}] * 5}, ["model.stages.4", "pool"]),
        ({"name": "cnn", "stages": [{"filters": 2, "kernel": 17, "padding": 0}]}, ["model.stages.0", "17x17"]),
        ({"name": "residual", "stages": [{"blocks": 1, "filters": 2, "pool": "max", "pool_size": 17}]}, ["pool"]),
        ({"name": "mixture", "blocks": [{"filters": 2}] * 5}, ["model.blocks.4", "pool"]),
        ({"name": "convnext", "patch": 17, "stages": [{"blocks": 1, "filters": 2}]}, ["model.patch", "16x16"]),
        (
            {"name": "convnext", "patch": 4, "stages": [{"blocks": 1, "filters": 2}] * 4},
            ["model.stages.3", "a 1x1 feature map cannot be halved"],
        ),
        ({"name": "vit", "patch": 5}, ["model.patch", "16x16 pixels, but got 5"]),
    ],
)
def test_networks_that_leave_nothing_of_the_image(raw: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(InputError) as error:
        make(**raw)
    for word in words:
        assert word in str(error.value)


def test_one_parameter_group_with_what_trains() -> None:
    network = make(name="mlp", hidden=[4])
    first = next(network.parameters()).requires_grad_(False)
    (group,) = parameter_groups(network, 0.1)
    assert group["lr"] == 0.1
    assert len(group["params"]) == 3
    assert all(weight is not first for weight in group["params"])


def test_whitened_patches_are_uncorrelated() -> None:
    network = make((2, 12, 10), name="cnn", whitening=2, stages=[{"filters": 4}], features="avg")
    images = torch.rand(200, 2, 12, 10).cumsum(3) - 2  # neighbours are alike
    fit_images(network, lambda: images)
    maps = network[0](images).transpose(0, 1).flatten(1)
    assert maps.shape == (16, 200 * 11 * 9)
    assert torch.equal(maps[8:], -maps[:8])
    covariance = (maps[:8] @ maps[:8].T / maps.shape[1]).detach()
    assert torch.allclose(covariance, torch.eye(8), atol=0.05)  # the smallest variance is damped a little


@pytest.mark.parametrize("separable", [False, True])
def test_dirac_passes_on_the_input(separable: bool) -> None:
    stages = [{"filters": 5, "pool": "none", "separable": separable}]
    network = make(name="cnn", stages=stages, init="dirac", activation="relu")
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(network.get_submodule("stages.0.conv")(images)[:, :3], images)


def test_pooling_directly_after_the_convolution() -> None:
    stages = [{"filters": 5, "pool": "max"}]
    network = make(name="cnn", stages=stages, norm="batch", pool_place="after_conv")
    assert kinds(network.get_submodule("stages"))[:4] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]


def test_stochastic_depth_skips_whole_branches_and_keeps_the_mean() -> None:
    stages = [{"blocks": 2, "filters": 4}]
    network = make(name="residual", stem=4, stages=stages, stochastic_depth=0.5, norm="none")
    first, second = (block for block in network.modules() if isinstance(block, ResidualBlock))
    assert (first.skip_probability, second.skip_probability) == (0.25, 0.5)
    images = torch.rand(4000, 4, 2, 2)
    branch = second.branch(images)
    result = second(images)
    skipped = (result == images).flatten(1).all(1)
    assert skipped.float().mean().item() == pytest.approx(0.5, abs=0.05)  # six standard deviations
    assert torch.allclose(result[~skipped], (images + 2 * branch)[~skipped], atol=1e-5)
    assert torch.equal(second.eval()(images), branch + images)


def test_a_group_is_never_a_single_value() -> None:
    for channels in (1, 3, 8, 24, 64, 96):
        norm = norm_2d("group", channels)
        assert isinstance(norm, nn.GroupNorm)
        assert channels < 4 or channels // norm.num_groups >= 4
    assert norm_2d("group", 64)(torch.rand(2, 64, 1, 1)).abs().sum() > 1


@pytest.mark.parametrize("name", ["cnn", "residual"])
def test_norms_average_and_train_as_asked(name: str) -> None:
    stages = [{"filters": 4}] if name == "cnn" else [{"blocks": 1, "filters": 4}]
    network = make(
        name=name, stages=stages, norm="batch", head=[5], head_norm="batch", norm_momentum=0.4, norm_gain=False
    )
    norms = [layer for layer in network.modules() if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    assert len(norms) >= 2
    assert {norm.momentum for norm in norms} == {0.4}
    (group,) = parameter_groups(network, 0.1)
    trained = {id(weight) for weight in group["params"]}
    assert not any(id(norm.weight) in trained for norm in norms)
    assert all(id(norm.bias) in trained for norm in norms)


def test_global_maximum_before_the_head() -> None:
    network = make(name="cnn", stages=[{"filters": 5, "pool": "none"}], features="max")
    maps = torch.rand(2, 5, 16, 16)
    assert torch.equal(network.get_submodule("features")(maps), maps.amax((2, 3)))


def test_whitening_never_holds_the_patches_of_many_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pixel is in many patches: those of 5,000 images of 96 pixels a side would take 9 GB."""
    seen: list[int] = []
    unfold = torch.nn.functional.unfold

    def counted(images: torch.Tensor, *arguments: Any) -> torch.Tensor:
        seen.append(len(images))
        return unfold(images, *arguments)

    monkeypatch.setattr(torch.nn.functional, "unfold", counted)
    network = make((2, 12, 10), name="cnn", whitening=2, stages=[{"filters": 4}], features="avg")
    fit_images(network, lambda: torch.rand(250, 2, 12, 10))
    assert (sum(seen), max(seen)) == (250, 100)


def test_stochastic_depth_keeps_the_precision_of_the_branch() -> None:
    branch = torch.ones(64, 3, dtype=torch.bfloat16)
    assert survivors(branch, 0.5, training=True).dtype == torch.bfloat16
