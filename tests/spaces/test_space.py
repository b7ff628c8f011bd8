"""Spaces: the grammar, what is drawn from it, and the configs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.small_spaces import BASE, make
from winnow.spaces.errors import SpaceError
from winnow.spaces.space import AtLeast, Space
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.validation import check


def test_a_space_with_nothing_open_is_a_recipe() -> None:
    space = make()
    assert space.is_recipe
    assert space.size() == 1
    assert space.suggest(KnownTrial({})) == BASE
    assert space.encode(BASE) == {}


def test_a_choice_of_sub_spaces_has_the_parameters_of_the_chosen_one_only() -> None:
    space = make(optimizer={"choice": {"adam": {"lr": {"log": [1e-4, 1e-2]}}, "sgd": {"lr": 0.1, "momentum": 0.9}}})
    chosen = space.suggest(KnownTrial({"optimizer": "sgd"}))
    assert chosen["optimizer"] == {"name": "sgd", "lr": 0.1, "momentum": 0.9}
    chosen = space.suggest(KnownTrial({"optimizer": "adam", "optimizer.adam.lr": 0.002}))
    assert chosen["optimizer"] == {"name": "adam", "lr": 0.002}
    assert [(p.path, p.study_name, p.conditions) for p in space.parameters()] == [
        ("optimizer.name", "optimizer", ()),
        ("optimizer.lr", "optimizer.adam.lr", (("optimizer", "adam"),)),
    ]


def test_a_repeat_follows_the_count_beside_it_wherever_that_stands() -> None:
    stages = {"repeat": "depth", "of": {"filters": {"int": [8, 16]}}}
    space = make(model={"stages": stages, "depth": {"choice": [1, 3]}, "name": "cnn"})
    drawn = {f"model.stages.{index}.filters": 8 + index for index in range(3)}
    config = space.suggest(KnownTrial({**drawn, "model.depth": 3}))
    assert config["model"]["stages"] == [{"filters": 8}, {"filters": 9}, {"filters": 10}]
    assert [(p.study_name, p.conditions) for p in space.parameters()] == [
        ("model.depth", ()),
        ("model.stages.0.filters", ()),
        ("model.stages.1.filters", (("model.depth", AtLeast(2)),)),
        ("model.stages.2.filters", (("model.depth", AtLeast(3)),)),
    ]


def test_what_is_repeated_may_be_a_domain_or_a_choice_of_sub_spaces() -> None:
    hidden = {"repeat": 2, "of": {"log": [16, 64], "step": 2}}
    space = make(model={"name": "mlp", "hidden": hidden})
    assert space.suggest(KnownTrial({"model.hidden.0": 16, "model.hidden.1": 64}))["model"]["hidden"] == [16, 64]
    of = {"choice": {"flip": {}, "crop": {"padding": {"int": [1, 3]}}}}
    space = make(data={"name": "digits", "augment": {"repeat": 2, "of": of}})
    values = {"data.augment.0": "crop", "data.augment.0.crop.padding": 2, "data.augment.1": "flip"}
    assert space.suggest(KnownTrial(values))["data"]["augment"] == [{"name": "crop", "padding": 2}, {"name": "flip"}]
    assert "data.augment.1.padding" in space.columns()


def test_a_list_may_hold_domains() -> None:
    space = make(model={"name": "mlp", "hidden": [{"int": [16, 64]}, 32]})
    assert space.suggest(KnownTrial({"model.hidden.0": 20}))["model"]["hidden"] == [20, 32]


def test_two_numbers_are_a_list_of_two_numbers() -> None:
    space = make(model={"name": "mlp", "hidden": [16, 64]})
    assert space.is_recipe
    assert space.config(BASE | {"model": {"name": "mlp", "hidden": [16, 64]}}).model.hidden == [16, 64]


def test_the_order_of_suggestions_is_that_of_the_file() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.names: list[str] = []

        def suggest_categorical(self, name: str, choices: Any) -> Any:
            self.names.append(name)
            return choices[0]

        def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
            self.names.append(name)
            return high

    space = make(
        batch_size={"choice": [32, 64]},
        model={"name": "mlp", "depth": {"int": [1, 2]}, "hidden": {"repeat": "depth", "of": {"int": [8, 9]}}},
        epochs={"int": [2, 8]},
    )
    recorder = Recorder()
    space.suggest(recorder)
    assert recorder.names == ["epochs", "batch_size", "model.depth", "model.hidden.0", "model.hidden.1"]
    assert recorder.names == [p.study_name for p in space.parameters()]
    assert space.max_epochs == 8


def test_columns_merge_the_branches() -> None:
    space = make(
        optimizer={
            "choice": {
                "adam": {"lr": {"log": [1e-4, 1e-2]}, "beta1": {"choice": [0.9, 0.95]}},
                "sgd": {"lr": {"choice": [1, 2]}, "momentum": {"float": [0.1, 0.9]}},
            }
        },
        loss={"choice": {"cross_entropy": {"label_smoothing": {"choice": [0.0, 0.1]}}, "margin": {}}},
        gradient_clip={"choice": [None, 1.0]},
    )
    assert space.columns() == {
        "optimizer.name": "string",
        "optimizer.lr": "float",
        "optimizer.beta1": "float",
        "optimizer.momentum": "float",
        "loss.name": "string",
        "loss.label_smoothing": "float",
        "gradient_clip": "float",
    }


def test_infeasible_says_why_and_config_refuses() -> None:
    space = make(model={"name": "cnn", "depth": {"int": [1, 6]}, "stages": {"repeat": "depth", "of": {"filters": 8}}})
    raw = space.suggest(KnownTrial({"model.depth": 4}))
    reason = space.infeasible(raw, (1, 8, 8))
    assert reason is not None
    assert reason.startswith("model.stages.3.pool: pooling 2x2 of a 1x1 feature map leaves nothing")
    assert space.infeasible(raw, (1, 16, 16)) is None
    assert space.infeasible(raw, None) is None
    with pytest.raises(SpaceError, match="pooling 2x2"):
        space.config(raw, image_shape=(1, 8, 8))
    assert space.config(raw).model.depth == 4


def test_infeasible_knows_combinations_that_the_schema_refuses() -> None:
    sgd = {"name": "sgd", "lr": 0.1, "nesterov": {"choice": [True, False]}, "momentum": {"choice": [0.0, 0.9]}}
    space = make(optimizer=sgd)
    raw = space.suggest(KnownTrial({"optimizer.nesterov": True, "optimizer.momentum": 0.0}))
    assert space.infeasible(raw, None) == "optimizer: nesterov needs a momentum above 0"


def test_example_is_a_config_of_the_space() -> None:
    sgd = {"name": "sgd", "lr": 0.1, "nesterov": {"choice": [True, False]}, "momentum": {"choice": [0.0, 0.9]}}
    space = make(optimizer=sgd)
    assert space.encode(space.example().model_dump(mode="json"))


def test_a_complete_config_that_leaves_out_a_later_key_is_in_the_space() -> None:
    tree = {
        "data": "digits",
        "epochs": 2,
        "batch_size": 64,
        "model": {"name": "mlp", "hidden": [8]},
        "optimizer": {"name": "sgd", "lr": 0.1, "layer_decay": {"choice": [0.5, 1.0]}},
        "averaging": {"choice": [None, {"name": "ema"}]},
    }
    space = Space.from_tree(tree, "later.yaml")
    config = space.config({**tree, "optimizer": {"name": "sgd", "lr": 0.1}, "averaging": None}).model_dump(mode="json")
    del config["averaging"], config["optimizer"]["layer_decay"]  # as in runs of earlier versions
    assert space.suggest(KnownTrial(space.encode(config)))["optimizer"]["layer_decay"] == 1.0
    check(space)
