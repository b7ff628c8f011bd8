"""What is recorded about a GPU, with a stand-in for torch's CUDA: no GPU is at hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from tests.helpers.tiny import CPU
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import WHERE_TRAINED, where_trained
from winnow.search.training import gpu_facts
from winnow.spaces.gpu_facts import GPU_FACT_NAMES

JOB = Job("", "cuda", 1, 0, cpus=4.0, gpus=0.5)


@pytest.fixture
def gpu(monkeypatch):
    gpu_facts._constant_facts.cache_clear()
    values = {
        "get_device_name": lambda device: "NVIDIA H100",
        "get_device_properties": lambda index: SimpleNamespace(total_memory=80 * 2**30),
        "get_device_capability": lambda index: (9, 0),
        "max_memory_allocated": lambda device: 3 * 2**20,
        "max_memory_reserved": lambda device: 2**23 + 2**19,
    }
    for name, value in values.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    monkeypatch.setattr(gpu_facts, "_driver", lambda: "570.86.10")
    yield
    gpu_facts._constant_facts.cache_clear()


def test_a_line_says_what_it_was_trained_on(gpu):
    line = where_trained(torch.device("cuda", 0), JOB, replays_graphs=True)
    assert tuple(line) == WHERE_TRAINED
    assert {name: line[name] for name in GPU_FACT_NAMES} == {
        "gpu_memory_mb": 81920.0,
        "driver": "570.86.10",
        "cuda": "12.8",
        "cudnn": "9.10.2",
        "tf32": True,
        "replayed_cuda_graphs": True,
        "peak_allocated_mb": 3.0,
        "peak_reserved_mb": 8.5,
    }
    assert gpu_facts._dotted(8902) == "8.9.2"


def test_on_the_cpu_there_is_nothing_to_say():
    assert not set(GPU_FACT_NAMES) & set(where_trained(CPU, JOB))
