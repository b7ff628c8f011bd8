"""Own optimizer, schedule, loss, augmentation and initialization by import path: what works, resumes, and what is refused."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.helpers.tiny import CPU, figures, tiny_config, tiny_data
from tests.search.training.test_resume import assert_exact
from winnow.search.operations.build_check import check_own_parts
from winnow.search.ray_backend.runtime_env import _user_modules
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.own_parts import CHECKS, check_own_part
from winnow.spaces.errors import InputError
from winnow.spaces.own_code import own_parts
from winnow.spaces.space import Space
from winnow.spaces.validation import check

SHAPE = (3, 8, 8)


def optimizer(parameters: Any, lr: float, momentum: float = 0.0) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=momentum)


def no_optimizer(parameters: Any, lr: float) -> str:
    return "sgd"


def without_momentum(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.Adagrad(parameters, lr=lr)


def schedule(step: int, total_steps: int, steps_per_epoch: int, power: float = 1.0) -> float:
    return (1 - step / total_steps) ** power


def negative(step: int, total_steps: int, steps_per_epoch: int) -> float:
    return 0.5 - step / total_steps


def loss(logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return functional.cross_entropy(logits / temperature, labels)


def loss_per_image(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits, labels, reduction="none")


def noise(images: torch.Tensor, generator: torch.Generator, size: float = 1.0) -> torch.Tensor:
    return (images + size * torch.rand(images.shape, generator=generator)).clamp(0, 255)


def noise_per_image(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    assert image.ndim == 3
    return noise(image, generator)


def half(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images[:, :, ::2]


def global_noise(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images * random.random()


def zeros(network: nn.Module, images: torch.Tensor, value: float = 0.0) -> None:
    assert images.shape[1:] == SHAPE
    for weight in network.parameters():
        nn.init.constant_(weight, value)


def share_of(labels: Any, probabilities: Any, label: int) -> float:
    return float(probabilities[labels == label, label].mean())


def raises(network: nn.Module, images: torch.Tensor) -> None:
    raise KeyError("weight")


def path(function: str) -> str:
    return f"{__name__}:{function}"


KEYS: dict[str, Any] = {
    "optimizer": {"name": path("optimizer"), "lr": 0.1, "momentum": 0.9},
    "schedule": {"name": path("schedule"), "power": 2.0},
    "loss": {"name": path("loss"), "temperature": 2.0},
    "initialization": path("zeros"),
    "own_metric": {"name": path("share_of"), "label": 1},
    "data": {
        "name": "digits",
        "augment": [path("noise"), {"name": path("noise_per_image"), "per_image": True}, "flip"],
    },
}


def test_all_own_parts_train_and_resume_exactly(tmp_path: Path) -> None:
    config = tiny_config(**{**KEYS, "initialization": {"name": path("zeros"), "value": 0.1}})
    assert {what for what, _ in own_parts(config)} == CHECKS.keys() - {"model", "train"}
    assert_exact(config, tmp_path)


def test_each_part_is_used() -> None:
    data = DeviceData.build(tiny_data(), tiny_config().data, CPU, 0)
    plain = figures(next(train(tiny_config(), data, CPU, 0)))
    for key in KEYS.keys() - {"data", "own_metric"}:  # a metric changes no training
        assert figures(next(train(tiny_config(**{key: KEYS[key]}), data, CPU, 0))) != plain, key
    result = next(train(tiny_config(initialization=path("zeros"), optimizer={"name": "sgd", "lr": 1e-9}), data, CPU, 0))
    assert result.validation_loss == pytest.approx(torch.tensor(3.0).log().item(), abs=1e-4)  # all classes alike


def test_the_same_parts_of_torch_give_the_same_figures() -> None:
    same = {
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "loss": "cross_entropy",
    }
    own = {"optimizer": KEYS["optimizer"], "loss": path("loss")}
    data = DeviceData.build(tiny_data(), tiny_config().data, CPU, 0)
    for one, other in zip(
        train(tiny_config(**same), data, CPU, 0), train(tiny_config(**own), data, CPU, 0), strict=True
    ):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-5)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "misspelt key": (
        {"schedule": {"name": path("schedule"), "pwer": 2.0}},
        r"schedule .*: got an unexpected keyword argument 'pwer'; it was called with step, total_steps, steps_per_epoch, pwer, "
        "and takes step, total_steps, steps_per_epoch, power",
    ),
    "unknown optimizer key": (
        {"optimizer": {"name": path("optimizer"), "lr": 1.0, "beta": 1}},
        r"optimizer .*unexpected keyword argument 'beta'.*takes parameters, lr, momentum",
    ),
    "no such function": ({"loss": path("lss")}, r"loss .*has no function lss; did you mean loss\?"),
    "no optimizer": (
        {"optimizer": {"name": path("no_optimizer"), "lr": 1.0}},
        r"must return a torch.optim.Optimizer, but returned str",
    ),
    "no momentum to cycle": (
        {
            "optimizer": {"name": path("without_momentum"), "lr": 1.0},
            "schedule": {"name": "one_cycle", "lowest_momentum": 0.5},
        },
        r"lowest_momentum needs `momentum` or `betas` in its `defaults`, but they have lr, ",
    ),
    "negative factor": (
        {"schedule": path("negative")},
        r"finite number of at least 0, but at step 39 of 40 it is -0.4",
    ),
    "loss per image": ({"loss": path("loss_per_image")}, r"a tensor of shape \(\), but returned torch.float32 \(4,\)"),
    "another shape": (
        {"data": {"name": "digits", "augment": [path("half")]}},
        r"must return float32 of shape \(4, 3, 8, 8\), but returned torch.float32 \(4, 3, 4, 8\)",
    ),
    "draws of its own": (
        {"data": {"name": "digits", "augment": [path("global_noise")]}},
        r"two calls with the same state of the generator gave different results; all random draws must come from it",
    ),
    "an initialization that raises": (
        {"initialization": path("raises")},
        r"initialization .*:raises raised KeyError: 'weight'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    changes, message = REFUSED[case]
    config = tiny_config(**changes)
    ((what, part),) = own_parts(config)
    with pytest.raises(InputError, match=message) as error:
        check_own_part(what, part, config, SHAPE, 3)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_tried_in_a_process_of_their_own() -> None:
    check_own_parts([tiny_config(**KEYS)], SHAPE, 3)
    changes, message = REFUSED["negative factor"]
    with pytest.raises(InputError, match=message):
        check_own_parts([tiny_config(**KEYS), tiny_config(**changes)], SHAPE, 3)


def test_own_parts_are_searched_and_sent_like_others() -> None:
    tree = {
        "data": {"name": "digits", "augment": {"choice": ["none", [path("noise")]]}},
        "epochs": 2,
        "batch_size": 64,
        "model": {"name": "mlp", "hidden": [8]},
        "optimizer": {"choice": {"one.optim:build": {"lr": 0.1, "beta": {"float": [0.1, 0.9]}}, "adam": {"lr": 0.1}}},
        "schedule": {"name": "two:build", "power": {"choice": [1, 2]}},
        "loss": "three:build",
    }
    space = Space.from_tree(tree, "own.yaml")
    check(space)
    assert {"optimizer.beta", "schedule.power", "data.augment"} <= {parameter.path for parameter in space.parameters()}
    assert set(_user_modules(space.tree)) == {__name__, "one.optim", "two", "three"}
