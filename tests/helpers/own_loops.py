"""Training loops as users write them, good ones and bad ones, and configs that name them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.search.training.device_data import DeviceData

SHAPE = (3, 8, 8)
BY_HAND = {"precision": "float32", "data": {"name": "digits", "augment": ["flip"]}}


def adam(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    """What Winnow's loop does, written by hand."""
    model = config.network()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    for _ in checkpoint.epochs(model=model, optimizer=optimizer):
        model.train()
        for images, labels in data.loader():
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        yield {"lr": optimizer.param_groups[0]["lr"]}


def average_and_global_draws(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    """An average of the weights is what counts; NumPy and Python draw too, and training images are read twice."""
    model = config.network()
    average = torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.epochs * len(data.loader()))
    loader = data.loader("train")
    for _ in checkpoint.epochs(
        model=average.module, raw=model, count=average, optimizer=optimizer, scheduler=scheduler
    ):
        total = 0.0
        assert not all(torch.equal(a, b) for (a, _), (b, _) in zip(loader, loader, strict=True))
        for images, labels in loader:
            images = images * (1 + random.random() / 10 + np.random.rand() / 10)
            loss = functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            average.update_parameters(model)
            total += loss.item()
        yield {"train_loss": total / len(loader), "train_accuracy": 0.5}


def diverges(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    model = config.network()
    for epoch in checkpoint.epochs(model=model):
        yield {"train_loss": torch.tensor(float("nan") if epoch else 1.0)}


def other_measures(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    model = config.network()
    for _ in checkpoint.epochs(model=model):
        yield {
            "validation_loss": 0.001,
            "validation_macro_f1": 1.0,
            "validation_auroc": float("nan"),
            "lr": float("inf"),
        }


def nothing_yielded(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {}


def improves_once(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    model = config.network()
    for epoch in checkpoint.epochs(model=model):
        first, *_, last_bias = model.parameters()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
            first.fill_(epoch / 100)
            last_bias[0] = 0.0 if epoch == 1 else 10.0  # sure of the first class in all epochs but the second
        yield {}


def another_network(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=nn.Linear(3, 3)):
        yield {}


class Scaled(nn.Module):
    """The weights of another network, but ten times its answers."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = [inner]

    def state_dict(self, *arguments: Any, **keys: Any) -> Any:
        return self.inner[0].state_dict()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.inner[0](images * 10)


def other_answers(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=Scaled(config.network())):
        yield {}


def no_generator(config: Any, data: Any, device: torch.device, checkpoint: Any) -> None: ...


def three_arguments(config: Any, data: Any, device: torch.device) -> Iterator[dict[str, Any]]:
    yield {}


def no_epochs(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    yield {}


def unknown_figure(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"validation_acuracy": 0.5}


def no_number(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": "0.5"}


def no_dict(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[Any]:
    for _ in checkpoint.epochs(model=config.network()):
        yield 0.5


def twice(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {}
        yield {}


def too_short(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {}
        return


def too_good(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"validation_accuracy": 1.0}


def raises(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": config.momentum}


def divides(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network()):
        yield {"train_loss": 1 / len(data.loader("validation"))}


class NumpyState:
    def state_dict(self) -> dict[str, Any]:
        return {"best": Path("x")}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None: ...


def strange_state(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network(), best=NumpyState()):
        yield {}


def stateless_part(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    for _ in checkpoint.epochs(model=config.network(), best=3):
        yield {}


def opens_the_test(config: Any, data: Any, device: torch.device, checkpoint: Any) -> Iterator[dict[str, Any]]:
    data.loader("test")
    yield {}


def path(function: str) -> str:
    return f"{__name__}:{function}"


def own_config(function: str, keys: dict[str, Any] | None = None, **changes: Any) -> Any:
    return tiny_config(**{"optimizer": None, "train": {"name": path(function), **(keys or {})}, **changes})


def device_data(config: Any, use: Any = "search") -> DeviceData:
    return DeviceData.build(tiny_data(), config.data, CPU, 0, use)
