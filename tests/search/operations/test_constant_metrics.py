"""A metric that is the same for every network decides nothing: top-5 accuracy with five classes. It is refused before anything starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.cli.main import main
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source
from winnow.search.operations import searching
from winnow.search.operations.checks import check_space
from winnow.search.operations.probing import plan_search
from winnow.search.settings import settings_for
from winnow.search.training.metrics import top5_accuracy
from winnow.spaces.epoch_figures import LEAST_CLASSES, OBJECTIVES, QUALITY
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

TOP5 = "validation_top5_accuracy"
TREE: dict[str, Any] = {
    "data": {"name": "npz", "path": "unused.npz"},
    "epochs": 2,
    "batch_size": 8,
    "model": {"name": "mlp", "hidden": [4]},
    "optimizer": {"name": "sgd", "lr": {"log": [0.01, 0.1]}},
}
EARLY = {"patience": 1, "metric": TOP5}
WEIGHTS = f"highest_{TOP5}"


def space(**keys: Any) -> Space:
    return Space.from_tree({**TREE, **keys}, "own.yaml")


def with_classes(num: int) -> ImageData:
    return replace(tiny_data(), class_names=tuple("abcdefgh"[:num]))


def refused(number: int, keys: dict[str, Any], objective: str | None) -> str:
    with pytest.raises(InputError) as error:
        check_space(
            space(**keys), with_classes(number), objectives=[("search.objective", objective)] if objective else []
        )
    return str(error.value)


@pytest.mark.parametrize("num_classes", [3, 5])
@pytest.mark.parametrize(
    ("place", "keys", "objective"),
    [
        ("search.objective", {}, TOP5),
        ("early_stopping.metric", {"early_stopping": EARLY}, None),
        ("schedule.metric", {"schedule": {"name": "plateau", "metric": TOP5}}, None),
        ("weights", {"weights": {"choice": ["last", WEIGHTS]}}, "validation_accuracy"),
        ("early_stopping.metric, weights", {"early_stopping": EARLY, "weights": WEIGHTS}, None),
        (
            "schedule.metric",
            {"baseline": {"plain": {**TREE, "optimizer": {"name": "adam", "lr": 0.1}, "schedule": {"name": "plateau", "metric": TOP5}}}},
            None,
        ),
    ],
)  # fmt: skip
def test_it_is_refused_wherever_it_decides(
    num_classes: int, place: str, keys: dict[str, Any], objective: str | None
) -> None:
    instead = " (for weights: highest_validation_accuracy)" if "weights" in place else ""
    assert refused(num_classes, keys, objective) == (
        f"own.yaml: {place}: {TOP5} has the same value for every network if there are {num_classes} classes; it needs at least 6. "
        f"Use validation_accuracy instead{instead}"
    )


def test_as_a_further_objective_it_is_to_be_left_out() -> None:
    several = settings_for(space(search={"objectives": ["validation_accuracy", TOP5]})).named_metrics
    assert several == [("search.objectives", "validation_accuracy"), ("search.objectives", TOP5)]
    with pytest.raises(
        InputError,
        match=r"own.yaml: search.objectives: .* instead \(or leave it out of search.objectives, if two others remain\)$",
    ):
        check_space(space(), with_classes(3), objectives=several)


def test_with_six_classes_it_may_decide() -> None:
    check_space(space(early_stopping=EARLY, weights=WEIGHTS), with_classes(6), objectives=[("search.objective", TOP5)])


def test_only_top_5_needs_more_than_two_classes() -> None:
    assert {name for name in OBJECTIVES if LEAST_CLASSES[name] > 2} == {TOP5}
    assert {figure.name for figure in QUALITY} == LEAST_CLASSES.keys()
    labels = np.arange(LEAST_CLASSES[TOP5])
    worst = 1 - np.eye(len(labels))
    assert top5_accuracy(labels[:-1], worst[:-1, :-1]) == 1
    assert top5_accuracy(labels, worst) < 1


def test_a_config_names_what_it_watches() -> None:
    schedule = {"name": "plateau", "metric": "validation_macro_f1"}
    config = tiny_config(early_stopping=EARLY, schedule=schedule, weights="lowest_validation_calibration_error")
    assert config.watched == {
        "early_stopping.metric": TOP5,
        "schedule.metric": "validation_macro_f1",
        "weights": "validation_calibration_error",
    }
    assert tiny_config().watched == {}


# --- before anything starts ---------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A space of a data set of three classes."""
    monkeypatch.chdir(tmp_path)
    data = tiny_data()
    np.savez(
        "three.npz",
        train_images=data.train_images,
        train_labels=data.train_labels,
        test_images=data.test_images,
        test_labels=data.test_labels,
    )
    Path("own.yaml").write_text(yaml.safe_dump({**TREE, "data": {"name": "npz", "path": "three.npz"}}))
    return tmp_path


def nothing_starts(*_: Any, **__: Any) -> None:
    raise AssertionError("workers must not start")


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["search", "own.yaml", "--objective", TOP5], "search.objective"),
        (["search", "own.yaml", "--set", f"search.objectives=[{TOP5}, parameters]"], "search.objectives"),
        (["search", "own.yaml", "--set", f"search.objectives=[validation_accuracy, {TOP5}]"], "search.objectives"),
        (["train", "own.yaml", "--set", "optimizer.lr=0.1", "--set", f"weights={WEIGHTS}"], "weights"),
    ],
)
def test_the_command_refuses_it(
    own: Path,
    arguments: list[str],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(searching.Execution, "workers", nothing_starts)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"own.yaml: {place}: {TOP5} has the same value for every network if there are 3 classes" in (
        capsys.readouterr().err
    )
    assert not (own / "runs").exists()


def test_the_plan_with_a_probe_refuses_it(own: Path) -> None:
    loaded = Space.from_tree({**TREE, "data": {"name": "npz", "path": "three.npz"}}, "own.yaml")
    execution: Any = SimpleNamespace(new_source=Source(own))
    with pytest.raises(InputError, match=f"search.objective: {TOP5} has the same value"):
        plan_search(loaded, settings_for(loaded, objective=TOP5), execution, lambda _: None)
