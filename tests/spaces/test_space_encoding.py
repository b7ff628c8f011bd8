"""Spaces: the way back from a config to the parameters of a trial."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from tests.helpers.small_spaces import BASE, ask, make
from winnow.spaces.errors import SpaceError
from winnow.spaces.space import AtLeast, Space

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
    ({}, {"epochs": 5}, "epochs: the space has 4 here, but the config has 5"),
    (
        {"early_stopping": {"patience": {"int": [1, 3]}}},
        {},
        "early_stopping.patience: the space has a parameter here, but the config has no value",
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
