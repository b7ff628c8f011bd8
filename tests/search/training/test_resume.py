"""A training that was interrupted after any epoch goes on as if it had not been: equal to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from winnow.search.training.checkpoint import load, save
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train, weights_of
from winnow.search.training.optimizers import OPTIMIZERS
from winnow.search.training.schedules import SCHEDULES
from winnow.spaces.schema import Config

ALL_AUGMENTATIONS = [
    "flip",
    {"name": "flip", "alternate": True},
    "crop",
    {"name": "resize_crop", "size": 10},
    "brightness",
    "zoom",
    {"name": "cutout", "size": 3},
    "trivial_augment",
    "rand_augment",
    {"name": "random_erasing", "fill": "noise"},
]
SCHEDULE_SETTINGS: dict[str, dict[str, Any]] = {
    "constant": {"warmup": 1.5},
    "step": {"every": 2},
    "multistep": {"milestones": [1, 3]},
    "exponential": {"gamma": 0.8},
    "cosine": {"warmup": 1},
    "one_cycle": {},
    "plateau": {"patience": 0, "factor": 0.5},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer(name: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"sgd": {"momentum": 0.9, "nesterov": True}, "rmsprop": {"momentum": 0.5}}.get(name, {})
    assert_exact(tiny_config(optimizer={"name": name, "lr": 0.01, "weight_decay": 0.01, **more}), tmp_path)


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule(name: str, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "lr": 0.5, "momentum": 0.9}
    assert_exact(tiny_config(schedule={"name": name, **SCHEDULE_SETTINGS[name]}, optimizer=optimizer), tmp_path)


@pytest.mark.parametrize("averaging", ["ema", "lookahead"])
@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_averages_and_mixtures(averaging: str, mix: str, tmp_path: Path) -> None:
    average = {"name": averaging, "every": 3}
    config = tiny_config(averaging=average, mix={"name": mix, "p": 0.7}, weights="lowest_validation_loss")
    assert_exact(config, tmp_path)


def test_parts_of_modern_networks(tmp_path: Path) -> None:
    stages = [{"filters": 4, "pool": "max"}, {"filters": 8}]
    model = {
        "name": "cnn",
        "whitening": 2,
        "stages": stages,
        "norm": "group",
        "init": "dirac",
        "pool_place": "after_conv",
    }
    assert_exact(tiny_config(model=model, test_flip=True), tmp_path)
    stages = [{"blocks": 2, "filters": 8}]
    model = {"name": "residual", "stem": 4, "stages": stages, "stochastic_depth": 0.5, "squeeze": 2, "norm": "layer"}
    assert_exact(tiny_config(model=model), tmp_path)
    stages = [{"blocks": 2, "filters": 4}, {"blocks": 1, "filters": 4}]
    model = {"name": "convnext", "stages": stages, "stochastic_depth": 0.5, "dropout": 0.2}
    assert_exact(tiny_config(model=model, optimizer={"name": "lion", "lr": 0.01}), tmp_path)
    model = {"name": "vit", "patch": 2, "width": 8, "depth": 2, "heads": 2, "stochastic_depth": 0.5, "dropout": 0.2}
    assert_exact(tiny_config(model=model), tmp_path)


def test_augmentation_and_extra_copies(tmp_path: Path) -> None:
    extra = {"copies": 20, "augment": ["flip", "zoom"]}
    data = {"name": "npz", "path": "unused", "augment": ALL_AUGMENTATIONS, "extra": extra}
    assert_exact(tiny_config(data=data), tmp_path)


@pytest.mark.parametrize("rule", ["lowest_validation_loss", "highest_validation_accuracy"])
def test_early_stopping_and_best_weights(rule: str, tmp_path: Path) -> None:
    optimizer = {"name": "sgd", "lr": 5.0}  # the validation loss goes up and down
    config = tiny_config(weights=rule, early_stopping={"patience": 3}, optimizer=optimizer, epochs=40)
    assert assert_exact(config, tmp_path) < 40


@pytest.mark.parametrize("averaging", [None, {"name": "ema", "every": 3}])
def test_retraining(averaging: dict[str, Any] | None, tmp_path: Path) -> None:
    assert_exact(tiny_config(averaging=averaging), tmp_path, use="retrain")


def test_a_training_that_ended_does_not_go_on() -> None:
    config = tiny_config(early_stopping={"patience": 1}, optimizer={"name": "sgd", "lr": 5.0}, epochs=40)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    for result in train(config, data, CPU, 0):
        state = result.state()
    assert result.epoch < 40
    assert list(train(config, data, CPU, 0, checkpoint=state)) == []


def test_more_epochs_can_be_asked_for() -> None:
    short, long = tiny_config(epochs=2), tiny_config(epochs=4)
    data = DeviceData.build(tiny_data(), short.data, CPU, 0)
    for result in train(short, data, CPU, 0):
        state = result.state()
    extended = [figures(result) for result in train(long, data, CPU, 0, checkpoint=state)]
    assert extended == [figures(result) for result in train(long, data, CPU, 0)][2:]


def test_another_seed_is_refused() -> None:
    config = tiny_config()
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    state = next(train(config, data, CPU, 0)).state()
    with pytest.raises(ValueError, match="seed 0, not 1"):
        next(train(config, data, CPU, 1, checkpoint=state))


def assert_exact(config: Config, tmp_path: Path, use: str = "search") -> int:
    """Interrupt after each epoch, through a file; how many epochs there were."""
    data = DeviceData.build(tiny_data(), config.data, CPU, 0, use=use)
    whole, states = [], []
    for result in train(config, data, CPU, 7):
        whole.append(figures(result))
        states.append(tmp_path / f"{result.epoch}.pt")
        save(states[-1], result.state())
    weights, end = result.weights(), result.state()
    assert len(whole) >= 3
    assert same_tensors(weights_of(load(states[-1])), weights)
    for epoch, path in enumerate(states[:-1], start=1):
        resumed = []
        for result in train(config, data, CPU, 7, checkpoint=load(path)):
            resumed.append(figures(result))
        assert resumed == whole[epoch:]
        assert same_tensors(result.weights(), weights)
        assert same_tensors(result.state()["model"], end["model"])
    return len(whole)
