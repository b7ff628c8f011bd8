"""Groups of two and three ranks on the CPU (gloo), and a training that runs on them."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.helpers.tiny import CPU, figures, tiny_data
from winnow.search.ray_backend.rank_groups import RankGroupClient, RankGroupSpec, rank_groups
from winnow.search.ray_backend.session import ray_session
from winnow.search.ray_backend.shared_data import SharedData, train_on
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.search.training.ranks import Task, Team
from winnow.spaces.schema import Config


class Careless(nn.Sequential):
    """A network that prints when it trains, and may set the default dtype of its process."""

    sets_dtype = False

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            print("a batch")
            if self.sets_dtype:
                torch.set_default_dtype(torch.float64)
        return super().forward(images)


def careless(image_shape: tuple[int, int, int], num_classes: int, sets_dtype: bool) -> nn.Module:
    """Build a `Careless` network."""
    network = Careless(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))
    network.sets_dtype = sets_dtype
    return network


CARELESS = {"name": "tests.helpers.rank_training:careless", "sets_dtype": True}
NOISY = {**CARELESS, "sets_dtype": False}

PLAIN: dict[str, Any] = {  # neither batch norm nor dropout: then the shared-out batch gives the same update
    "precision": "float32",  # in bfloat16 sums in another order differ in the third digit
    "model": {"name": "cnn", "stages": [{"filters": 4}], "head": [8]},
    "data": {"name": "npz", "path": "unused", "augment": ["flip", "crop"]},
}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """The Ray of the other tests if it runs, else one that preloads nothing, because it starts groups sooner."""
    with ray_session(num_cpus=2, num_gpus=0, warm=False) as started:
        yield started


@pytest.fixture(scope="module")
def groups(ray) -> Iterator[dict[int, RankGroupClient]]:
    """A group of two and one of three ranks; restarted by the test that uses it where a test kills them."""
    with (
        rank_groups(RankGroupSpec(2, "cpu", 1, {"CPU": 0.1}), 1) as two,
        rank_groups(RankGroupSpec(3, "cpu", 1, {"CPU": 0.1}), 1) as three,
    ):
        yield {2: two, 3: three}


@pytest.fixture(scope="module")
def run(ray, groups):
    images = ray.put(tiny_data())

    def run(config: Config, ranks: int, state: Any = None, **more: Any) -> tuple[Any, ...]:
        """(figures, states after each epoch, final weights)"""
        data = SharedData(images, groups[ranks]) if ranks > 1 else tiny_data()
        reports = list(train_on(data, "a test", epochs, config=config, state=state, **more))
        return [report[0] for report in reports], [report[1] for report in reports], reports[-1][2]

    return run


def epochs(
    data: Any, team: Team | None, config: Config, state: Any, other: Any = None, micro_batches: int = 1
) -> Generator[Any, None, None]:
    """On rank 0, or alone. `other`: another task for the other ranks."""
    torch.set_num_threads(1)
    on_device = DeviceData.build(data, config.data, CPU, 0)
    if team is not None:
        team.begin(other or Task(config, 0, "search", 7, state, micro_batches))
    for result in train(config, on_device, CPU, 7, checkpoint=state, micro_batches=micro_batches, team=team):
        yield figures(result), result.state(), result.weights(), os.getpid()
