"""Which CPUs and GPUs of a machine may be used: those that Slurm or an affinity mask allots."""

from __future__ import annotations

import pytest

from winnow.search.resources.inventory import allocated_cpus, allocated_gpus


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (None, None)),
        ({"CUDA_VISIBLE_DEVICES": "1,3", "SLURM_JOB_GPUS": "1,3"}, (None, None)),
        ({"SLURM_JOB_GPUS": "2,3"}, ("2,3", 2)),
        ({"SLURM_STEP_GPUS": "3", "SLURM_JOB_GPUS": "2,3"}, ("3", 1)),
        ({"SLURM_GPUS_ON_NODE": "2"}, (None, 2)),
        ({"SLURM_GPUS": "a100:4"}, (None, 4)),
        ({"SLURM_GPUS": "a100:2,v100:1"}, (None, 3)),
        ({"SLURM_GPUS": "a100:many"}, (None, None)),
        ({"SLURM_GPUS_ON_NODE": "0"}, ("", 0)),
    ],
)
def test_slurms_gpus(environment, expected):
    assert allocated_gpus(environment) == expected


def test_slurms_cpus(monkeypatch):
    monkeypatch.setattr("winnow.search.resources.inventory.available_cpus", lambda: 8)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    assert allocated_cpus({}) is None
    assert allocated_cpus({"SLURM_CPUS_PER_TASK": "4"}) == 4
    assert allocated_cpus({"SLURM_CPUS_PER_TASK": "16"}) is None
    monkeypatch.setattr("winnow.search.resources.inventory.available_cpus", lambda: 3)  # an affinity mask
    assert allocated_cpus({}) == 3
