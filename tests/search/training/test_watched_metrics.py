"""Early stopping, the plateau schedule and the kept weights by any metric, also one of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.search.operations.checks import check_space
from winnow.search.settings import settings_for
from winnow.search.training.device_data import DeviceData
from winnow.search.training.early_stopping import EarlyStopping
from winnow.search.training.epoch_result import EpochResult
from winnow.search.training.loop import train
from winnow.search.training.own_parts import check_own_part
from winnow.search.training.schedules import Plateau
from winnow.spaces.epoch_figures import OBJECTIVES, OWN_METRIC, kept_values, to_minimize, weights_rules
from winnow.spaces.errors import InputError, SpaceError
from winnow.spaces.identity import identity
from winnow.spaces.own_code import own_parts
from winnow.spaces.schema import Config
from winnow.spaces.space import Space

HERE = __name__


def share_of_first(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean probability of class 0 for its images."""
    assert labels.dtype == np.int64
    assert probabilities.shape == (len(labels), 3)
    return float(probabilities[labels == 0, 0].mean())


def one_argument(labels: np.ndarray) -> float:
    return 0.0


def raises(labels: np.ndarray, probabilities: np.ndarray) -> float:
    raise KeyError("cost")


def share_of(labels: np.ndarray, probabilities: np.ndarray, label: int, factor: float = 1.0) -> float:
    return float(factor * probabilities[labels == label, label].mean())


def a_text(labels: np.ndarray, probabilities: np.ndarray) -> str:
    return "good"


def epochs(use: str = "search", **changes: Any) -> list[EpochResult]:
    config = tiny_config(**changes)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0, "retrain" if use == "retrain" else "search")
    return list(train(config, data, CPU, seed=3))


@pytest.mark.parametrize("rule", weights_rules())
def test_the_kept_epoch_has_the_best_value_of_the_metric(rule: str) -> None:
    metric = weights_rules()[rule]
    results = epochs(weights=rule, epochs=5, own_metric=f"{HERE}:share_of_first")
    figures = [{"epoch": r.epoch, "validation_loss": r.validation_loss, **r.metrics} for r in results]
    values = [to_minimize(metric, each) for each in figures]
    assert results[-1].weights_epoch == 1 + values.index(min(values))
    kept = {r.epoch: figures[r.weights_epoch - 1]["validation_loss"] for r in results}
    assert kept_values(rule, "validation_loss", figures) == kept


def test_early_stopping_watches_its_metric_in_its_direction() -> None:
    high = EarlyStopping(2, metric="validation_macro_f1")
    assert [high.observe({"validation_macro_f1": v}) for v in (0.1, 0.3, 0.2, 0.3)] == [False, False, False, True]
    low = EarlyStopping(2, metric="validation_calibration_error")
    assert [low.observe({"validation_calibration_error": v}) for v in (0.3, 0.2, 0.1, None)] == [False] * 4


def test_early_stopping_of_a_config_uses_the_metric() -> None:
    # 0 is the most that AUROC could improve by, so no epoch after the first counts as new.
    stopping = {"patience": 2, "metric": "validation_auroc", "min_delta": 1.0}
    assert len(epochs(epochs=6, early_stopping=stopping)) == 3


def test_a_plateau_watches_its_metric() -> None:
    plateau = Plateau(0.1, 0)
    for epoch, accuracy in enumerate((0.5, 0.6, 0.6), start=1):
        plateau.observe(epoch, to_minimize("validation_accuracy", {"validation_accuracy": accuracy}))
    assert plateau.scale == pytest.approx(0.1)
    schedule = {"name": "plateau", "patience": 0, "metric": OWN_METRIC}
    watched = epochs(epochs=5, schedule=schedule, own_metric=f"{HERE}:share_of_first")
    best, lr = -1.0, 0.01
    for result in watched:
        assert result.lr == pytest.approx(lr)
        value = result.metrics[OWN_METRIC]
        assert value is not None
        lr *= 1.0 if value > best else 0.1
        best = max(best, value)


@pytest.mark.parametrize("use", ["search", "retrain"])
def test_given_reductions_take_the_place_of_a_metric(use: str) -> None:
    schedule = {"name": "plateau", "patience": 0, "factor": 0.5, "reductions": [1, 3]}
    assert [r.lr for r in epochs(use, schedule=schedule)] == pytest.approx([0.01, 0.005, 0.005, 0.0025])


def test_every_objective_can_be_watched() -> None:
    for metric in OBJECTIVES:
        tiny_config(early_stopping={"patience": 1, "metric": metric}, own_metric="own:metric")


def space(**keys: Any) -> Space:
    tree = {
        "data": {"name": "npz", "path": "unused.npz"},
        "epochs": 2,
        "batch_size": 8,
        "model": {"name": "mlp", "hidden": [4]},
        "optimizer": {"name": "sgd", "lr": {"log": [0.01, 0.1]}},
        **keys,
    }
    return Space.from_tree(tree, str(Path("own.yaml")))


@pytest.mark.parametrize("key", ["early_stopping", "schedule", "weights"])
def test_a_rule_on_an_own_metric_needs_one(key: str) -> None:
    values: dict[str, Any] = {
        "early_stopping": {"patience": 1, "metric": OWN_METRIC},
        "schedule": {"name": "plateau", "metric": OWN_METRIC},
        "weights": f"highest_{OWN_METRIC}",
    }
    with pytest.raises(SpaceError, match=f"{key}.*needs `own_metric`"):
        space(**{key: values[key]}).config({**space().tree, "optimizer": {"name": "sgd", "lr": 0.1}, key: values[key]})


def test_an_objective_on_an_own_metric_needs_exactly_one() -> None:
    assert settings_for(space(own_metric="a:b"), objective=OWN_METRIC).direction == "maximize"
    several = ({"choice": ["a:b", "c:d"]}, {"name": "a:b", "label": {"choice": [0, 1]}})
    for keys in ({}, *({"own_metric": each} for each in several)):
        with pytest.raises(InputError, match="needs one function in the key own_metric"):
            settings_for(space(**keys), objective=OWN_METRIC)


def test_further_keys_are_arguments_of_an_own_metric() -> None:
    plain, keyed, twice = (
        [result.metrics[OWN_METRIC] for result in epochs(epochs=2, own_metric=metric)]
        for metric in (
            f"{HERE}:share_of_first",
            {"name": f"{HERE}:share_of", "label": 0},
            {"name": f"{HERE}:share_of", "label": 0, "factor": 2.0},
        )
    )
    assert plain == keyed
    assert twice == pytest.approx([2 * value for value in plain])


def test_an_own_metric_without_keys_is_recorded_as_its_import_path() -> None:
    """So configs of earlier versions keep their identity. A key is a part of it."""
    bare, named = (tiny_config(own_metric=metric).model_dump() for metric in ("a:b", {"name": "a:b"}))
    assert bare["own_metric"] == named["own_metric"] == "a:b"
    keyed = tiny_config(own_metric={"name": "a:b", "label": 0})
    assert keyed.model_dump()["own_metric"] == {"name": "a:b", "label": 0}
    assert type(keyed).model_validate(keyed.model_dump(mode="json")) == keyed
    other = tiny_config(own_metric={"name": "a:b", "label": 1})
    assert len({identity(config) for config in (bare, keyed.model_dump(), other.model_dump())}) == 3


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"label": 0, "factr": 2.0}, "unexpected keyword argument 'factr'; it was called with labels, probabilities, label, factr, "
                                     "and takes labels, probabilities, label, factor"),
        ({}, "missing a required argument: 'label'; it was called with labels, probabilities, and takes"),
        ({"label": "first"}, "raised IndexError"),
    ],
)  # fmt: skip
def test_keys_of_an_own_metric_must_fit_its_function(metric: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"own_metric {HERE}:share_of.*{words}"):
        tried(tiny_config(own_metric={"name": f"{HERE}:share_of", **metric}))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            f"{HERE}:one_argument",
            "too many positional arguments; it was called with labels, probabilities, and takes labels",
        ),
        (f"{HERE}:raises", "raised KeyError: 'cost'"),
        (f"{HERE}:a_text", "must return a number, but returned str"),
        (f"{HERE}:shareoffirst", r"has no function shareoffirst; did you mean share_of_first\?"),
        ("no_such_module:cost", "importing no_such_module failed"),
    ],
)
def test_an_own_metric_is_tried_before_anything_starts(name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"own_metric {name}.*{words}"):
        tried(tiny_config(own_metric=name))


def tried(config: Config) -> None:
    ((what, part),) = own_parts(config)
    check_own_part(what, part, config, (3, 8, 8), 3)


def test_an_own_metric_of_a_space_is_tried_with_the_other_parts() -> None:
    with pytest.raises(InputError, match=r"own_metric .*:raises raised KeyError: 'cost'"):
        check_space(space(own_metric=f"{HERE}:raises"), tiny_data())


def test_an_objective_may_name_the_function() -> None:
    given = space(search={"objective": "a:b"})
    assert (given.example().model_dump()["own_metric"], settings_for(given).objective) == ("a:b", OWN_METRIC)
    assert given.tree == space(own_metric="a:b", search={"objective": OWN_METRIC}).tree
    with_keys = space(own_metric={"name": "a:b", "label": 0}, search={"objective": "a:b"})
    assert with_keys.example().model_dump()["own_metric"] == {"name": "a:b", "label": 0}
    assert settings_for(with_keys).objective == OWN_METRIC
    with pytest.raises(SpaceError, match=r"search.objective names the function a:b, but own_metric names c:d"):
        space(own_metric="c:d", search={"objective": "a:b"})
