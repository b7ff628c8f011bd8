"""Packing on a real GPU: memory of the largest model, throughput of several processes on it. Run with `-m gpu`."""

from __future__ import annotations

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers.packing import worth
from winnow.search.data.source import Source, load_data
from winnow.search.ray_backend.measure_packing import measure_packing
from winnow.search.ray_backend.session import ray_session
from winnow.search.resources.largest_config import largest_config
from winnow.search.resources.packing import USABLE
from winnow.search.training.speed_probe import measure
from winnow.spaces import catalog

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def test_the_peak_holds_what_torch_allocated():
    space = catalog.load("digits")
    data = load_data(space, Source(REPOSITORY / "data"))
    device = torch.device("cuda")
    found = measure(largest_config(space, data), data, device, seconds=0.2)
    assert found.memory_mb >= torch.cuda.max_memory_allocated(device) / 2**20 > 0


def test_a_gpu_is_packed():
    pytest.importorskip("ray")
    space = catalog.load("digits")
    data = load_data(space, Source(REPOSITORY / "data"))
    with ray_session(num_gpus=1) as ray:
        found = measure_packing(ray, space, data, "cuda", float(int(ray.cluster_resources()["CPU"])), 0, print)
    memory_mb = torch.cuda.get_device_properties(0).total_memory / 2**20
    assert found.levels[0].images_per_second
    chosen = next(level for level in found.levels if level.at_once == found.at_once)
    assert chosen.memory_mb <= USABLE * memory_mb
    assert all(worth(level) <= worth(chosen) for level in found.levels)
