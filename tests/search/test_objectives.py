"""Objectives that cannot compare the trials of a space are refused before anything starts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.operations.checks import check_space
from winnow.search.settings import settings_for
from winnow.spaces.errors import InputError
from winnow.spaces.identity import NEWER_KEYS, identity
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import KnownTrial
from winnow.spaces.validation import corners

CE = {"cross_entropy": {"label_smoothing": {"float": [0.0, 0.2]}}}


def space(loss: Any) -> Space:
    tree = {
        "data": {"name": "npz", "path": "unused.npz"},
        "epochs": 2,
        "batch_size": 8,
        "model": {"name": "mlp", "hidden": [4]},
        "optimizer": {"name": "sgd", "lr": {"log": [0.01, 0.1]}},
        "loss": loss,
    }
    return Space.from_tree(tree, str(Path("own.yaml")))


@pytest.mark.parametrize(
    "loss",
    [
        {"choice": {**CE, "margin": {}}},
        {"name": "margin", "margin": {"float": [0.5, 2.0]}},
        {"name": "margin", "p": {"choice": [1, 2]}},
    ],
)
def test_losses_of_different_kinds_are_not_compared_by_their_values(loss: Any) -> None:
    with pytest.raises(
        InputError, match=r"own\.yaml: the objective validation_loss cannot compare trials here.*margin"
    ):
        settings_for(space(loss), objective="validation_loss")
    settings_for(space(loss), objective="validation_accuracy")


@pytest.mark.parametrize(
    "loss",
    [
        {"choice": {**CE, "focal": {"gamma": {"float": [0.0, 3.0]}}}},
        {"name": "cross_entropy", "class_weights": {"choice": ["none", "balanced", [1.0, 2.0, 3.0]]}},
        {"name": "margin"},
    ],
)
def test_losses_that_are_measured_alike_are_compared(loss: Any) -> None:
    settings_for(space(loss), objective="validation_loss")


@pytest.mark.parametrize("first", ["validation_accuracy", "validation_macro_f1"])
def test_each_of_several_objectives_must_be_able_to_compare_trials(first: str) -> None:
    """What is asked of the only objective is asked of every further metric too."""

    def several(further: str, loss: Any, **keys: Any) -> Space:
        tree = {**space(loss).tree, "search": {"objectives": [first, further, "parameters"]}, **keys}
        return Space.from_tree(tree, "own.yaml")

    unlike = {"choice": {**CE, "margin": {}}}
    with pytest.raises(
        InputError, match=r"own\.yaml: the objective validation_loss cannot compare trials here.*margin"
    ):
        settings_for(several("validation_loss", unlike))
    settings_for(several("validation_auroc", unlike))
    settings_for(several("validation_loss", {"name": "margin"}))
    with pytest.raises(
        InputError, match="the objective validation_own_metric needs one function in the key own_metric"
    ):
        settings_for(several("validation_own_metric", {"name": "margin"}))
    settings = settings_for(several("validation_own_metric", {"name": "margin"}, own_metric="mine:metric"))
    assert settings.ranked_by == [first, "validation_own_metric", "num_parameters"]


def test_a_list_of_class_weights_must_fit_the_classes() -> None:
    weights = {"choice": ["none", [1.0, 2.0]]}
    with pytest.raises(InputError, match=r"loss\.class_weights: needs one weight for each of the 3 classes, but got 2"):
        check_space(space({"name": "cross_entropy", "class_weights": weights}), tiny_data())


def test_a_default_among_the_options_is_found_again_in_a_config() -> None:
    """A key that is left out of a complete config when it has its default could not be encoded."""
    keys: dict[str, Any] = {
        "data": {"name": "npz", "path": "unused.npz", "sampling": {"choice": ["uniform", "balanced"]}},
        "early_stopping": {
            "patience": 1,
            "min_delta": {"choice": [0.0, 0.1]},
            "metric": {"choice": ["validation_loss", "validation_macro_f1"]},
        },
        "schedule": {
            "name": "one_cycle",
            "lowest_momentum": {"choice": [None, 0.0]},
            "shape": {"choice": ["cosine", "linear"]},
        },
        "optimizer": {"name": "sgd", "lr": 0.1, "decoupled": {"choice": [False, True]}},
        "test_flip": {"choice": [False, True]},
        "test_shift": {"int": [0, 2]},
    }
    weights = {"name": "cross_entropy", "class_weights": {"choice": ["none", "balanced"]}}
    whole = Space.from_tree({**space(weights).tree, **keys}, "own.yaml")
    for config in corners(whole):
        complete = config.model_dump(mode="json")
        stored = whole.encode(complete)
        assert {parameter.study_name for parameter in whole.parameters()} == set(stored)
        assert whole.config(whole.suggest(KnownTrial(stored))) == config


def test_configs_recorded_before_a_key_existed_keep_their_identity() -> None:
    config = tiny_config(early_stopping={"patience": 1}, schedule={"name": "plateau", "patience": 0}).model_dump(
        mode="json"
    )
    older = copy.deepcopy(config)
    for section, key, _ in NEWER_KEYS:
        (older[section] if section else older).pop(key, None)
    assert older != config
    assert identity(older) == identity(config)
    assert identity({**config, "own_metric": "a:b"}) != identity(config)
