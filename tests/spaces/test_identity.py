"""Configs that build the same network and train it the same count as one: held by training both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny import CPU, figures, tiny_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces.identity import identity, normal_form, same_training
from winnow.spaces.schema import Config

SHAPE = (3, 8, 8)
DATA = tiny_data(num_train=30, num_test=3)
CNN: dict[str, Any] = {"name": "cnn", "stages": [{"filters": 4, "pool": "avg"}], "head": [6], "dropout": 0.3}
SGD: dict[str, Any] = {"name": "sgd", "lr": 0.05, "momentum": 0.5}


def complete(**changes: Any) -> dict[str, Any]:
    tree = {
        "data": {"name": "npz", "path": "unused.npz"},
        "epochs": 3,
        "batch_size": 8,
        "model": CNN,
        "optimizer": SGD,
        **changes,
    }
    return Config.model_validate(tree).model_dump(mode="json")


def curve(config: dict[str, Any]) -> list[dict[str, Any]]:
    parsed = Config.model_validate(config)
    return [figures(result) for result in train(parsed, DeviceData.build(DATA, parsed.data, CPU, seed=0), CPU, 1)]


def schedule(name: str, **keys: Any) -> dict[str, Any]:
    return {"schedule": {"name": name, "warmup": 1.0, **keys}}


def model(**keys: Any) -> dict[str, Any]:
    return {"model": {**CNN, **keys}}


def residual(**keys: Any) -> dict[str, Any]:
    return {"model": {"name": "residual", "stem": 4, "stages": [{"blocks": 1, "filters": 4}], **keys}}


def data(*augment: dict[str, Any]) -> dict[str, Any]:
    return {"data": {"name": "npz", "path": "unused.npz", "augment": list(augment)}}


PIXEL = [{"filters": 4, "pool_size": 8}]
STAGES = [{"filters": 4, "pool": "none"}]
SAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "size of no pool": (model(stages=STAGES), model(stages=[{**STAGES[0], "pool_size": 3}])),
    "place of no norm": (model(), model(norm_place="after_pool")),
    "after a pool that is none": (
        model(stages=STAGES, norm="batch", norm_place="after_activation"),
        model(stages=STAGES, norm="batch", norm_place="after_pool"),
    ),
    "padding spelt out": (model(), model(stages=[{**CNN["stages"][0], "padding": 1}])),
    "norm of no head": (model(head=[], dropout=0.0), model(head=[], dropout=0.0, head_norm="batch")),
    "dropout of no hidden layer": (model(head=[], dropout=0.0), model(head=[], dropout=0.4)),
    "place of no dropout": (model(dropout=0.0, head=[6, 5]), model(dropout=0.0, head=[6, 5], dropout_place="last")),
    "the only hidden layer is the last": (model(), model(dropout_place="last")),
    "flat pixel": (model(stages=PIXEL), model(stages=PIXEL, features="avg")),
    "largest of one pixel": (model(stages=PIXEL), model(stages=PIXEL, features="max")),
    "gain of no norm": (model(norm="none", head_norm="none"), model(norm="none", head_norm="none", norm_gain=False)),
    "momentum of a norm without statistics": (
        model(norm="group", head_norm="none"),
        model(norm="group", head_norm="none", norm_momentum=0.4),
    ),
    "scale without a skip": (residual(skip=False), residual(skip=False, scale=0.3)),
    "residual, no norm": (residual(norm="none"), residual(norm="none", norm_place="after_activation")),
    "linear classifier": (
        {"model": {"name": "mlp", "hidden": []}},
        {"model": {"name": "mlp", "hidden": [], "activation": "elu", "norm": "batch", "dropout": 0.5}},
    ),
    "pool of a mixture": (
        {"model": {"name": "mixture", "blocks": [{"filters": 4, "pool": "none"}]}},
        {"model": {"name": "mixture", "blocks": [{"filters": 4, "pool": "none", "pool_size": 4}]}},
    ),
    "no decay to decouple": (
        {"optimizer": {"name": "adam", "lr": 0.01}},
        {"optimizer": {"name": "adamw", "lr": 0.01, "weight_decay": 0.0}},
    ),
    "step of 1": (schedule("constant"), schedule("step", every=1, gamma=1.0)),
    "step too late": (schedule("constant"), schedule("step", every=3)),
    "milestones too late": (schedule("constant"), schedule("multistep", milestones=[3, 9])),
    "one milestone too late": (schedule("multistep", milestones=[1]), schedule("multistep", milestones=[1, 3])),
    "exponential of 1": (schedule("constant"), schedule("exponential", gamma=1.0)),
    "steps are milestones": (schedule("step", every=1), schedule("multistep", milestones=[1, 2])),
    "exponential steps": (schedule("step", every=1, gamma=0.5), schedule("exponential", gamma=0.5)),
    "cosine to where it was": (schedule("constant"), schedule("cosine", final=1.0)),
    "plateau out of reach": (schedule("constant"), schedule("plateau", patience=1)),
    "patience out of reach": ({}, {"early_stopping": {"patience": 2}}),
    "flip never": (data(), data({"name": "flip", "p": 0.0})),
    "as bright as it was": (data(), data({"name": "brightness", "low": 1.0, "high": 1.0})),
}


OF_ONE_PIXEL = ("flat pixel", "largest of one pixel")
"""Cases that depend on the shape of the images."""


@pytest.mark.parametrize("case", SAME)
def test_what_has_no_effect_makes_no_other_config(case):
    one, other = complete(**SAME[case][0]), complete(**SAME[case][1])
    assert one != other
    assert identity(one, SHAPE) == identity(other, SHAPE)
    assert same_training(one, other, SHAPE)
    assert same_training(one, other) == (identity(one) == identity(other)) == (case not in OF_ONE_PIXEL)
    assert curve(one) == curve(other)


@pytest.mark.parametrize("pair", [("avg", "max"), ("flatten", "avg"), ("flatten", "max")])
@pytest.mark.parametrize("family", [model, residual])
def test_the_features_of_several_pixels_differ(family, pair):
    one, other = (complete(**family(features=features)) for features in pair)
    assert identity(one, SHAPE) != identity(other, SHAPE)
    assert not same_training(one, other, SHAPE)
    assert curve(one) != curve(other)


def test_a_network_that_cannot_be_built_has_an_identity():
    """As in a run of somebody else."""
    one, other = (complete(**model(stages=PIXEL * 2, features=features)) for features in ("flatten", "avg"))
    assert identity(one, SHAPE) != identity(other, SHAPE)


def test_a_frozen_backbone_has_one_rate():
    transfer = {"name": "transfer", "backbone": "resnet18", "frozen": True, "head_lr_factor": 4.0}
    one = complete(model=transfer, optimizer={"name": "adam", "lr": 0.25})
    other = complete(model={**transfer, "head_lr_factor": 1.0, "resize": 8}, optimizer={"name": "adam", "lr": 1.0})
    assert identity(one, SHAPE) == identity(other, SHAPE)
    assert same_training(one, other, SHAPE)
    assert identity(one, (3, 16, 16)) != identity(other, (3, 16, 16))
    assert not same_training(one, other, (3, 16, 16))


@pytest.mark.parametrize("name", ["muon", "my_pkg.optimizers:build"])
def test_a_frozen_backbone_has_two_rates_with_some_optimizers(name):
    """Muon has one for hidden layers of the head and one for the rest, and a custom optimizer receives `lr` itself."""
    transfer = {"name": "transfer", "backbone": "resnet18", "frozen": True, "head_lr_factor": 4.0}
    one = complete(model=transfer, optimizer={"name": name, "lr": 0.25})
    other = complete(model={**transfer, "head_lr_factor": 1.0}, optimizer={"name": name, "lr": 1.0})
    assert identity(one, SHAPE) != identity(other, SHAPE)


def test_stages_recorded_before_they_could_be_separable_keep_their_identity() -> None:
    config = complete()
    older = {**config, "model": {**config["model"], "stages": [dict(stage) for stage in config["model"]["stages"]]}}
    for stage in older["model"]["stages"]:
        del stage["separable"], stage["squeeze"]
    assert identity(older) == identity(config)
    for key, value in (("separable", True), ("squeeze", 2)):
        assert identity(complete(**model(stages=[{**CNN["stages"][0], key: value}]))) != identity(config)


# Few values for each key, and many that matter only beside others: two random configs are often one training.
LAYERS = st.fixed_dictionaries(
    {
        "stages": st.lists(
            st.fixed_dictionaries(
                {
                    "filters": st.just(4),
                    "pool": st.sampled_from(["max", "none"]),
                    "pool_size": st.sampled_from([2, 4]),
                    "padding": st.sampled_from(["same", 1]),
                }
            ),
            min_size=1,
            max_size=1,
        ),
        "norm": st.sampled_from(["none", "batch"]),
        "norm_place": st.sampled_from(["after_conv", "after_activation", "after_pool"]),
        "head": st.sampled_from([[], [6], [6, 5]]),
        "head_norm": st.sampled_from(["none", "batch"]),
        "dropout": st.sampled_from([0.0, 0.3]),
        "dropout_place": st.sampled_from(["hidden", "last"]),
    }
)
SCHEDULES = st.sampled_from(
    [
        {"name": "constant"},
        {"name": "cosine", "final": 1.0},
        {"name": "cosine"},
        {"name": "step", "every": 2},
        {"name": "step", "every": 5},
        {"name": "multistep", "milestones": [2, 7]},
        {"name": "multistep", "milestones": [2]},
    ]
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@settings(max_examples=60, deadline=None)
@given(layers=LAYERS, others=LAYERS, schedules=st.tuples(SCHEDULES, SCHEDULES), keep=st.integers(0, 7))
def test_one_identity_is_one_training_and_another_is_another(layers, others, schedules, keep):
    """Both ways: what is taken for the same gives the same figures, and what gives the same figures is taken for the same."""
    mixed = {key: (layers if index < keep else others)[key] for index, key in enumerate(layers)}
    one = complete(model={"name": "cnn", **layers}, schedule=schedules[0])
    other = complete(model={"name": "cnn", **mixed}, schedule=schedules[1])
    assert (identity(one, SHAPE) == identity(other, SHAPE)) == (curve(one) == curve(other))


def test_the_normal_form_is_a_config_and_its_own_normal_form():
    for one, other in SAME.values():
        for changes in (one, other):
            form = normal_form(complete(**changes), SHAPE)
            assert normal_form(Config.model_validate(form).model_dump(mode="json"), SHAPE) == form
            assert normal_form(form, SHAPE) == form
