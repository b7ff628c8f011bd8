"""Parameter counts of the reference experiments (A to E) against calculations by hand.

A convolution of i to o channels with a k x k kernel has i * o * k * k weights and o biases, a linear layer i * o and o,
a batch norm 2 * c. A layer that a norm follows has no bias: the norm would take it away again.
"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from winnow.models import summarize
from winnow.spaces.schema import Model

CIFAR = (3, 32, 32)


def stages(*filters: int, last_pools: bool = True, kernel: int = 3) -> list[dict[str, Any]]:
    pools = ["max"] * (len(filters) - 1) + ["max" if last_pools else "none"]
    return [{"filters": f, "kernel": kernel, "pool": pool} for f, pool in zip(filters, pools, strict=True)]


def pool_last(*filters: int) -> list[dict[str, Any]]:
    return [{"filters": f, "pool": "none"} for f in filters[:-1]] + [{"filters": filters[-1]}]


A3 = {"name": "cnn", "stages": stages(32, 64, 128, 256, last_pools=False), "norm": "batch", "head": [1024, 256]}
# 32 -> 16 -> 8 -> 4 pixels by three pools: 256 * 4 * 4 = 4096 features
A3_CONVS = 3 * 32 * 9 + 32 * 64 * 9 + 64 * 128 * 9 + 128 * 256 * 9 + 2 * (32 + 64 + 128 + 256)
A3_PARAMETERS = A3_CONVS + 4096 * 1024 + 1024 + 1024 * 256 + 256 + 256 * 100 + 100

# LeNet: 32 -> 28 -> 14 -> 10 -> 5; B2 and B3: 32 -> 30 -> 15 -> 12 -> 6
LENET = {
    "name": "cnn",
    "stages": [{"filters": 6, "kernel": 5, "padding": 0}, {"filters": 16, "kernel": 5, "padding": 0}],
}
B2 = [{"filters": 6, "kernel": 3, "padding": 0}, {"filters": 16, "kernel": 4, "padding": 0}]
B3 = [{"filters": 32, "kernel": 3, "padding": 0}, {"filters": 64, "kernel": 4, "padding": 0}]


def mixture_block(i: int, o: int) -> int:
    """Mixer, three convolutions with biases, 1x1 convolution and its norm where widths differ, norm."""
    return i * 3 + 3 + 3 * (i * o * 9 + o) + (i * o + 2 * o if i != o else 0) + 2 * o


def residual_block(i: int, o: int) -> int:
    """Two convolutions with norms; a 1x1 convolution with norm where widths differ."""
    return i * o * 9 + 2 * o + o * o * 9 + 2 * o + (i * o + 2 * o if i != o else 0)


D1 = {
    "name": "residual",
    "stem": 64,
    "stages": [
        {"blocks": 3, "filters": 64},
        {"blocks": 4, "filters": 128},
        {"blocks": 6, "filters": 256},
        {"blocks": 3, "filters": 512, "pool": "max"},
    ],
    "scale": 0.1,
    "features": "flatten",
    "head": [50],
    "logits_norm": "batch",
}
D1_PARAMETERS = (
    3 * 64 * 9 + 2 * 64
    + 3 * residual_block(64, 64)
    + residual_block(64, 128) + 3 * residual_block(128, 128)
    + residual_block(128, 256) + 5 * residual_block(256, 256)
    + residual_block(256, 512) + 2 * residual_block(512, 512)
    + 512 * 16 * 16 * 50 + 50 + 50 * 100 + 2 * 100
)  # fmt: skip


def wide(a: int, b: int, hidden: int = 4096, norm: bool = False) -> int:
    """Group E: convolutions 3-a-a-a-b, one pool (32 -> 16), FC hidden-100."""
    convs = 3 * a * 9 + a * a * 9 + a * a * 9 + a * b * 9
    extra = 2 * (3 * a + b) if norm else 3 * a + b
    return convs + extra + b * 16 * 16 * hidden + hidden + hidden * 100 + 100


def e(a: int, b: int, **other: Any) -> dict[str, Any]:
    return {"name": "cnn", "stages": pool_last(a, a, a, b), "head": [4096], **other}


# row: (model, classes, parameters)
ROWS: dict[str, tuple[dict[str, Any], int, int]] = {
    "A1": (
        {"name": "cnn", "stages": stages(32, 64, 128), "head": [1024, 512]},
        100,
        (3 * 32 * 9 + 32) + (32 * 64 * 9 + 64) + (64 * 128 * 9 + 128)
        + (128 * 4 * 4 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 100 + 100),
    ),
    "A2": (
        {"name": "cnn", "stages": stages(32, 64, 128), "norm": "batch", "head": [1024, 512]},
        100,
        3 * 32 * 9 + 32 * 64 * 9 + 64 * 128 * 9 + 2 * (32 + 64 + 128)
        + (128 * 4 * 4 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 100 + 100),
    ),
    "A3": (A3, 100, A3_PARAMETERS),
    "A4": (
        {**A3, "head": [1024, 256, 512, 128], "dropout": 0.5},
        100,
        A3_CONVS + 4096 * 1024 + 1024 + 1024 * 256 + 256 + 256 * 512 + 512 + 512 * 128 + 128 + 128 * 100 + 100,
    ),
    "A5": ({**A3, "activation": "elu", "dropout": 0.5}, 100, A3_PARAMETERS),
    "A6": ({**A3, "activation": "leaky_relu", "dropout": 0.5}, 100, A3_PARAMETERS),
    "A7": (
        {**A3, "stages": [{**s, "pool": s["pool"].replace("max", "avg")} for s in A3["stages"]], "dropout": 0.5},
        100,
        A3_PARAMETERS,
    ),
    "A8, A9, A10": ({**A3, "dropout": 0.5}, 100, A3_PARAMETERS),
    "B1": (
        {**LENET, "head": [120, 84]},
        10,
        (3 * 6 * 25 + 6) + (6 * 16 * 25 + 16) + (16 * 5 * 5 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10),
    ),
    "B2": (
        {**LENET, "stages": B2, "head": [120, 84]},
        10,
        (3 * 6 * 9 + 6) + (6 * 16 * 16 + 16) + (16 * 6 * 6 * 120 + 120) + (120 * 84 + 84) + (84 * 10 + 10),
    ),
    "B3": (  # the norms stand behind the pools, so the convolutions keep their biases
        {**LENET, "stages": B3, "head": [600, 200], "norm": "batch", "norm_place": "after_pool"},
        10,
        (3 * 32 * 9 + 32) + 2 * 32 + (32 * 64 * 16 + 64) + 2 * 64
        + (64 * 6 * 6 * 600 + 600) + (600 * 200 + 200) + (200 * 10 + 10),
    ),
    "C1": (
        {"name": "mixture", "blocks": [{"filters": 64}, {"filters": 64, "pool": "none"}]},
        10,
        mixture_block(3, 64) + mixture_block(64, 64) + 64 * 10 + 10,
    ),
    "C2": (
        {
            "name": "mixture",
            "blocks": [{"filters": 64}, {"filters": 64}, {"filters": 128}, {"filters": 128, "pool": "none"}],
            "dropout": 0.5,
        },
        10,
        mixture_block(3, 64) + mixture_block(64, 64) + mixture_block(64, 128) + mixture_block(128, 128) + 128 * 10 + 10,
    ),
    "D1": (D1, 100, D1_PARAMETERS),
    "E1": (
        {"name": "mlp", "hidden": [4096, 4096]},
        100,
        (3 * 32 * 32 * 4096 + 4096) + (4096 * 4096 + 4096) + (4096 * 100 + 100),
    ),
    "E2": (e(32, 64), 100, wide(32, 64)),
    "E3a": (e(128, 256), 100, wide(128, 256)),
    "E3b": (e(256, 512), 100, wide(256, 512)),
    "E3c": (e(512, 1024), 100, wide(512, 1024)),
    "E4a": (e(128, 256, norm="batch"), 100, wide(128, 256, norm=True)),
    "E4b": (e(128, 256, norm="batch", head=[8192]), 100, wide(128, 256, hidden=8192, norm=True)),
    "E4c": (e(128, 256, norm="batch", dropout=0.5, dropout_place="last"), 100, wide(128, 256, norm=True)),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_parameters_by_hand(row: str) -> None:
    raw, num_classes, parameters = ROWS[row]
    assert summarize(TypeAdapter(Model).validate_python(raw), CIFAR, num_classes).num_parameters == parameters


def test_figures_that_anyone_can_look_up() -> None:
    """LeNet-5 on three channels; the sums above cannot be wrong in the same way as these."""
    figures = {row: ROWS[row][2] for row in ("A1", "B1", "E1")}
    assert figures == {"A1": 2_767_524, "B1": 62_006, "E1": 29_778_020}


def test_multiply_adds_by_hand() -> None:
    """A1: a convolution does one per weight and output position (32x32, 16x16, 8x8), a linear layer one per weight."""
    raw, num_classes, _ = ROWS["A1"]
    summary = summarize(TypeAdapter(Model).validate_python(raw), CIFAR, num_classes)
    convs = [3 * 32 * 9 * 32 * 32, 32 * 64 * 9 * 16 * 16, 64 * 128 * 9 * 8 * 8]
    linear = [2048 * 1024, 1024 * 512, 512 * 100]
    assert [layer.multiply_adds for layer in summary.layers if layer.num_parameters] == convs + linear
    assert summary.multiply_adds == sum(convs + linear)


def test_summary_rows_name_kind_and_shape() -> None:
    raw, num_classes, _ = ROWS["B3"]
    layers = summarize(TypeAdapter(Model).validate_python(raw), CIFAR, num_classes).layers
    first = [(layer.name, layer.kind, layer.output_shape) for layer in layers[:5]]
    assert first == [
        ("stages.0.conv", "Conv2d", (32, 30, 30)),
        ("stages.0.activation", "ReLU", (32, 30, 30)),
        ("stages.0.pool", "MaxPool2d", (32, 15, 15)),
        ("stages.0.norm_after_pool", "BatchNorm2d", (32, 15, 15)),
        ("stages.1.conv", "Conv2d", (64, 12, 12)),
    ]
    assert (layers[-1].name, layers[-1].output_shape) == ("head.classes", (10,))
