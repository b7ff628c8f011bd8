"""A config in words and as a drawing: every family of networks and every optimizer of the schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers.tiny import schema_names, tiny_config
from tests.models.test_registries import FAMILIES as CONFIGS
from winnow.reports.html.network_drawing import network_blocks
from winnow.reports.text.config_words import describe, epochs_text, short_winner
from winnow.reports.text.winner_words import FAMILIES, OPTIMIZERS, winner_sentence
from winnow.spaces import schema
from winnow.spaces.shapes import TRACES

FACTS = {
    "mlp": ("mlp 12-9 ", "A fully connected network with 2 hidden layers (12 and 9 units; 100 weights)"),
    "cnn": ("cnn 4-6 ", "A convolutional network with 2 stages (4 and 6 filters; 100 weights)"),
    "residual": ("residual 4-8 ", "A residual network with 2 stages (4 and 8 filters; 100 weights)"),
    "mixture": ("mixture 4-4 ", "A mixture network with 2 blocks (4 and 4 filters; 100 weights)"),
    "convnext": ("convnext 4-6 ", "A ConvNeXt with 2 stages (4 and 6 filters; 100 weights)"),
    "vit": ("vit 8x2 patch 2 ", "A vision transformer with 2 blocks (8 channels, patches of 2x2 pixels; 100 weights)"),
    "transfer": ("transfer squeezenet1_1 ", "The network squeezenet1_1 (100 weights)"),
    "custom": ("tests.models.test_registries:tiny ", "The network tests.models.test_registries:tiny (100 weights)"),
}


def _config(**changes: Any) -> dict[str, Any]:
    return tiny_config(**changes).model_dump(mode="json")


@pytest.mark.parametrize("family", CONFIGS)
def test_a_config_names_its_network_and_its_sizes(family: str) -> None:
    config = _config(model=CONFIGS[family])
    line, sentence = FACTS[family]
    assert describe(config).startswith(line)
    assert winner_sentence(config, 100).startswith(f"{sentence}, trained for ")
    short = short_winner({"config": json.dumps(config)})
    assert short.startswith(line)
    assert short.endswith(f", {config['epochs']} epochs")
    assert "relu" not in short


@pytest.mark.parametrize(
    ("config", "num_epochs", "expected"),
    [
        ({"epochs": 18}, [], "18 epochs"),
        ({"epochs": 18}, [18, 18], "18 epochs"),
        ({"epochs": 18}, [14, 9], "9 to 14 of 18 epochs"),
        ({"epochs": 18}, [18, 9], "9 to 18 of 18 epochs"),
        ({"epochs": 18}, [9, 9], "9 of 18 epochs"),
        ({"epochs": 18, "stop_after": 12}, [12], "12 epochs"),
        ({"epochs": 1}, [1], "1 epoch"),
    ],
)
def test_epochs_are_those_that_were_trained(config: dict[str, Any], num_epochs: list[int], expected: str) -> None:
    assert epochs_text(config, num_epochs) == expected


def test_a_backbone_that_is_an_earlier_winner_is_named_by_its_file() -> None:
    model = {**CONFIGS["transfer"], "backbone": {"weights": "runs/signs/winner.pt"}}
    assert describe(_config(model=model)).startswith("transfer winner.pt ")


def test_the_lists_of_names_hold_what_the_schema_names() -> None:
    assert set(FAMILIES) == set(TRACES)
    assert set(OPTIMIZERS) == schema_names(schema.BuiltInOptimizer)
    assert {name.lower() for name in OPTIMIZERS.values()} == set(OPTIMIZERS)
    assert all(name != name.lower() for name in OPTIMIZERS.values())


@pytest.mark.parametrize(
    ("family", "layers"),
    [
        ("convnext", [("stem", "4 × 8×8"), ("blocks 1", "4 × 8×8"), ("blocks 2", "6 × 4×4")]),
        ("vit", [("patches", "8 × 8×8"), ("block 1", "64 × 8"), ("block 2", "64 × 8")]),
        ("mixture", [("conv 1", "4 × 16×16"), ("conv 2", "4 × 8×8"), ("hidden 1", "8")]),
    ],
)
def test_the_drawing_names_the_layers(family: str, layers: list[tuple[str, str]]) -> None:
    blocks = network_blocks(_config(model=CONFIGS[family]), (3, 16, 16), 7)
    expected = [("image", "3 × 16×16"), *layers, ("classes", "7")]
    assert [(block.title, block.size) for block in blocks] == expected
