"""Spaces: the grammar, what is drawn from it, its parameters and columns, and the way back from a config."""

from __future__ import annotations

import json
import math
import pickle
from itertools import count
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from winnow.spaces.errors import SpaceError
from winnow.spaces.space import AtLeast, Space
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.validation import check

BASE: dict[str, Any] = {
    "data": "digits",
    "epochs": 4,
    "batch_size": 32,
    "model": {"name": "cnn", "stages": [{"filters": 8}]},
    "optimizer": {"name": "adam", "lr": 0.001},
}


def make(**changes: Any) -> Space:
    return Space.from_tree({**BASE, **changes}, "test.yaml")


def ask(space: Space, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A raw config as a study draws it, and the parameters of its trial."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return space.suggest(trial), trial.params


# --- the grammar ------------------------------------------------------------------------------------------------------


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


# --- size -------------------------------------------------------------------------------------------------------------


class Enumeration:
    """A trial that takes the options given, then the first ones, and notes how many there were each time."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix
        self.taken: list[tuple[int, int]] = []

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        position = len(self.taken)
        index = self.prefix[position] if position < len(self.prefix) else 0
        self.taken.append((index, len(choices)))
        return list(choices)[index]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.suggest_categorical(name, range(low, high + 1, step))


def enumerate_configs(space: Space) -> list[str]:
    found, prefix = [], []
    for _ in count():
        trial = Enumeration(prefix)
        found.append(json.dumps(space.suggest(trial)))
        while trial.taken and trial.taken[-1][0] + 1 == trial.taken[-1][1]:
            trial.taken.pop()
        if not trial.taken:
            return found
        prefix = [index for index, _ in trial.taken[:-1]] + [trial.taken[-1][0] + 1]
    raise AssertionError


FINITE: list[dict[str, Any]] = [
    {"batch_size": {"choice": [1, 2, 3]}, "epochs": {"int": [2, 6], "step": 2}},
    {"model": {"name": "mlp", "depth": {"int": [0, 3]}, "hidden": {"repeat": "depth", "of": {"choice": [8, 16]}}}},
    {
        "model": {
            "choice": {"mlp": {"hidden": {"repeat": 2, "of": {"int": [1, 3]}}}, "cnn": {"stages": [{"filters": 8}]}}
        }
    },
    {
        "model": {
            "name": "x:y",
            "a": {"int": [1, 2]},
            "b": {"choice": [1, 3]},
            "c": {"repeat": "a", "of": {"n": {"choice": ["p", "q"]}}},
            "d": {"repeat": "a", "of": {"choice": [0.5, 1.5]}},
            "e": {"repeat": "b", "of": {"k": {"int": [1, 2]}, "l": {"repeat": "k", "of": {"choice": [1, 2]}}}},
        }
    },
]


@pytest.mark.parametrize("changes", FINITE, ids=range(len(FINITE)))
def test_size_counts_the_configs(changes: dict[str, Any]) -> None:
    space = make(**changes)
    found = enumerate_configs(space)
    assert len(found) == len(set(found)) == space.size()


def test_a_continuous_range_makes_it_infinite() -> None:
    assert make(optimizer={"name": "adam", "lr": {"log": [1e-4, 1e-2]}}).size() == math.inf
    model = {"name": "mlp", "depth": {"int": [0, 1]}, "hidden": {"repeat": "depth", "of": {"int": [1, 5]}}}
    assert make(model=model).size() == 6


# --- the way back -----------------------------------------------------------------------------------------------------

numbers = st.one_of(
    st.just({"log": [1e-4, 1e-1]}),
    st.just({"float": [0.01, 0.5]}),
    st.just({"float": [0.1, 0.5], "step": 0.1}),
    st.just({"log": [1e-4, 1.0], "step": 10}),
    st.just({"choice": [0.1, 0.01, 1]}),
    st.just(0.03),
)
counts = st.one_of(st.just({"int": [1, 3]}), st.just({"choice": [1, 3]}), st.just(2))
stage = st.fixed_dictionaries(
    {"filters": st.sampled_from([8, {"choice": [8, 16]}, {"int": [8, 24], "step": 8}, {"log": [8, 32], "step": 2}])},
    optional={
        "pool": st.sampled_from(["none", {"choice": ["none", "avg"]}]),
        "padding": st.sampled_from([1, {"choice": ["same", 0, 1]}]),
    },
)
models = st.one_of(
    st.builds(lambda n, of: {"name": "cnn", "depth": n, "stages": {"repeat": "depth", "of": of}}, counts, stage),
    st.builds(lambda n, of: {"choice": {"cnn": {"stages": {"repeat": n, "of": of}}}}, st.integers(1, 3), stage),
    st.builds(
        lambda n, of: {
            "choice": {
                "mlp": {"hidden": {"choice": [[], [8], [8, 4]]}, "dropout": {"float": [0.0, 0.5]}},
                "cnn": {"stages": {"repeat": "depth", "of": of}, "depth": n, "activation": {"choice": ["relu", "elu"]}},
            }
        },
        counts,
        stage,
    ),
)
optimizers = st.one_of(
    st.builds(lambda lr: {"name": "adam", "lr": lr}, numbers),
    st.builds(
        lambda lr, other, on: {"choice": {"sgd": {"lr": lr, "momentum": 0.9, "nesterov": on}, "adamw": {"lr": other}}},
        numbers,
        numbers,
        st.sampled_from([True, {"choice": [True, False]}]),
    ),
)
rest = st.fixed_dictionaries(
    {},
    optional={
        "batch_size": st.sampled_from([{"choice": [32, 64]}, {"log": [16, 128], "step": 2}, {"log": [16, 128]}]),
        "schedule": st.sampled_from(
            [
                "cosine",
                {"choice": ["cosine", "constant"]},
                {"choice": {"cosine": {"warmup": {"choice": [0, 2]}}, "constant": {}}},
            ]
        ),
        "loss": st.sampled_from(["margin", {"choice": {"margin": {"p": {"choice": [1, 2]}}, "cross_entropy": {}}}]),
        "gradient_clip": st.sampled_from([None, {"choice": [None, 1.0]}, {"float": [0.5, 2]}]),
        "early_stopping": st.sampled_from([{"patience": {"int": [1, 3]}}, {"choice": [None, {"patience": 2}]}]),
        "data": st.sampled_from(
            [
                {
                    "name": "digits",
                    "augment": {"choice": ["none", "flip_crop", ["flip", {"name": "cutout", "size": 2}]]},
                },
                {
                    "name": "digits",
                    "augment": [{"name": "crop", "padding": {"int": [1, 3]}}],
                    "normalize": {"choice": ["none", "computed"]},
                },
            ]
        ),
    },
)
spaces = st.builds(
    lambda model, optimizer, more: make(model=model, optimizer=optimizer, **more), models, optimizers, rest
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces, st.integers(0, 2**31))
def test_encode_is_the_inverse_of_suggest(space: Space, seed: int) -> None:
    raw, params = ask(space, seed)
    complete = space.config(raw).model_dump(mode="json")
    for config in (raw, complete):
        encoded = space.encode(config)
        assert list(encoded) == list(params)
        for name, value in encoded.items():
            assert value == (pytest.approx(params[name]) if isinstance(value, float) else params[name])
        assert space.suggest(FixedTrial(encoded)) == raw


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces, st.integers(0, 2**31))
def test_parameters_conditions_and_columns_describe_every_trial(space: Space, seed: int) -> None:
    raw, params = ask(space, seed)
    complete = space.config(raw).model_dump(mode="json")
    listed = {parameter.study_name: parameter for parameter in space.parameters()}
    for name, parameter in listed.items():
        met = [
            params.get(other, 0) >= value.count if isinstance(value, AtLeast) else params.get(other) == value
            for other, value in parameter.conditions
        ]
        assert (name in params) == all(met), "active exactly where its conditions hold"
        assert parameter.path in space.columns()
        if name in params:
            found: Any = complete
            for key in parameter.path.split("."):
                found = found[int(key)] if isinstance(found, list) else found[key]
            kind = space.columns()[parameter.path]
            assert found is None or kind == "string" or isinstance(found, int | float)
    assert set(params) <= set(listed)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(spaces)
def test_survives_pickle_and_its_tree(space: Space) -> None:
    assert pickle.loads(pickle.dumps(space)) == space
    again = Space.from_tree(json.loads(json.dumps(space.tree)), space.source)
    assert again == space
    assert again.root == space.root


OUTSIDE = [
    ({"batch_size": {"choice": [32, 64]}}, {"batch_size": 48}, "batch_size: 48 is outside {choice: [32, 64]}"),
    (
        {"optimizer": {"name": "adam", "lr": {"log": [1e-3, 1e-2]}}},
        {"optimizer": {"name": "adam", "lr": 0.1}},
        "optimizer.lr: 0.1 is outside {log: [0.001, 0.01]}",
    ),
    (
        {"optimizer": {"choice": {"adam": {"lr": 0.1}, "sgd": {"lr": 0.1}}}},
        {"optimizer": {"name": "adamw", "lr": 0.1}},
        "optimizer.name: 'adamw' is outside the space; allowed: adam, sgd; did you mean adam?",
    ),
    ({}, {"epochs": 5}, "epochs: the space has 4 there, but the config 5"),
    (
        {"early_stopping": {"patience": {"int": [1, 3]}}},
        {},
        "early_stopping.patience: the space has a parameter there, but the config has nothing",
    ),
    (
        {"model": {"name": "mlp", "depth": {"int": [1, 2]}, "hidden": {"repeat": "depth", "of": {"int": [4, 8]}}}},
        {"model": {"name": "mlp", "hidden": [5, 5, 5]}},
        "model.depth: 3 is outside {int: [1, 2]}",
    ),
]


@pytest.mark.parametrize(("space", "config", "message"), OUTSIDE, ids=range(len(OUTSIDE)))
def test_a_config_outside_the_space_is_refused(space: dict[str, Any], config: dict[str, Any], message: str) -> None:
    with pytest.raises(SpaceError) as error:
        make(**space).encode({**BASE, **config})
    assert str(error.value) == message


def test_a_depth_left_out_is_the_length_of_the_list() -> None:
    space = make(model={"name": "cnn", "depth": {"int": [1, 3]}, "stages": {"repeat": "depth", "of": {"filters": 8}}})
    config = {**BASE, "model": {"name": "cnn", "stages": [{"filters": 8}, {"filters": 8}]}}
    assert space.encode(config) == {"model.depth": 2}


# --- configs ----------------------------------------------------------------------------------------------------------


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
