"""How many trials share a device: what is chosen from the measured levels, and which memory they must fit into."""

from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.helpers.packing import worth
from tests.helpers.tiny import tiny_config
from winnow.search.ray_backend.measure_packing import Limit, MeasuredDevice, _level, memory_of
from winnow.search.resources.packing import Level, choose
from winnow.search.training.speed_probe import Measured

RATES = {1: 1000.0, 2: 1900.0, 4: 3000.0, 8: 3010.0}


@pytest.mark.parametrize(
    ("rates", "largest_mb", "memory_mb", "expected"),
    [
        (RATES, 4_000.0, 80_000.0, 4),  # eight give 0.3 % more, which is noise
        ({**RATES, 8: 4000.0}, 4_000.0, 80_000.0, 8),
        ({1: 1000.0, 2: 1020.0, 4: 1050.0, 8: 1080.0}, 10.0, 80_000.0, 1),  # twice the trials have to gain a tenth
        ({1: 1000.0, 2: 1050.0, 4: 1300.0}, 10.0, 80_000.0, 4),
        ({1: 1000.0, 4: 1150.0}, 10.0, 80_000.0, 1),
        ({**RATES, 8: 4000.0}, 10_000.0, 80_000.0, 4),  # eight of the largest model would not fit
        (RATES, 30_000.0, 80_000.0, 2),
        (RATES, 79_000.0, 80_000.0, 1),  # nothing fits with room to spare; one is the least there is
        ({1: 1000.0, 2: 800.0, 4: 500.0}, 10.0, 80_000.0, 1),
        (RATES, 0.0, None, 4),  # on CPUs memory is not looked at
    ],
)
def test_the_packing_with_the_most_images_per_second_that_fits(rates, largest_mb, memory_mb, expected):
    packing = choose([Level(n, rate, n * largest_mb) for n, rate in rates.items()], memory_mb)
    assert packing.at_once == expected
    assert f"chosen: {expected}" in packing.explanation
    assert f"1: {rates[1]:,.0f} images/s" in packing.explanation


@pytest.mark.parametrize(
    "rates", [RATES, {1: 1000.0, 2: 1050.0}, {1: 1000.0, 2: 1050.0, 4: 1300.0}, {1: 1000.0, 2: 1111.0, 8: 1300.0}]
)
def test_no_other_level_is_worth_more(rates):
    packing = choose([Level(n, rate, 0.0) for n, rate in rates.items()], None)
    assert max(packing.levels, key=worth).at_once == packing.at_once


def test_memory_without_a_gpu_is_said_to_be_estimated():
    levels = [Level(1, 900.0, 800.0), Level(2, None, 1600.0, "would need 1,600 MB")]
    packing = choose(levels, 1_000.0, estimated=True)
    assert packing.at_once == 1
    assert "the largest model is estimated to take 800 MB of the 1,000 that the machine has free" in packing.explanation


def test_only_free_memory_counts(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (3_000 * 2**20, 80_000 * 2**20))
    assert memory_of("cuda") == 3_000
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2_000 * 2**20, total=8_000 * 2**20))
    assert memory_of("cpu") == 2_000


def test_a_level_that_could_not_be_measured_is_not_chosen():
    levels = [Level(1, 900.0, 0.0), Level(2, None, 0.0, "CUDA out of memory"), Level(4, 1200.0, 0.0)]
    assert choose(levels, None).at_once == 4
    assert "2: CUDA out of memory" in choose(levels, None).explanation
    assert choose([Level(1, None, 0.0, "no node was free")], None).at_once == 1


def test_what_is_measured_changes_nothing_for_the_trials_in_its_process(monkeypatch):
    """With a stand-in for Ray that runs tasks at once, in this process."""

    def measure_carelessly(*_: Any) -> float:
        torch.set_default_dtype(torch.float64)
        return 1.0

    class Remote:
        def __init__(self, what: Any) -> None:
            self.what = what

        def remote(self, *arguments: Any) -> Any:
            return self.what(*arguments)

    ray = SimpleNamespace(
        remote=lambda **_: Remote,
        get=lambda results, timeout: results,
        kill=lambda gate: None,
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setattr("winnow.search.ray_backend.measure_packing._measure_when_open", measure_carelessly)
    device = MeasuredDevice(ray, None, None, "cpu", 2.0, 0)
    assert device.measure(tiny_config(), 2, 0.1) == [1.0, 1.0]
    assert torch.get_default_dtype() == torch.float32


def leave_threads(*_: Any) -> int:
    """A measurement of a model that spoils its process, which ends a moment later."""
    for _ in range(50):
        threading.Thread(target=time.sleep, args=(60.0,), daemon=True).start()
    return os.getpid()


@pytest.mark.slow
def test_a_model_that_spoils_its_process_is_measured_at_every_level(shared_ray, monkeypatch):
    monkeypatch.setattr("winnow.search.ray_backend.measure_packing._measure_when_open", leave_threads)
    group = shared_ray.util.placement_group([{"CPU": 2}])
    try:
        assert group.wait(60)
        device = MeasuredDevice(shared_ray, group, None, "cpu", 2.0, 0)
        processes = [process for at_once in (1, 2) for process in device.measure(tiny_config(), at_once, 0.0)]
    finally:
        shared_ray.util.remove_placement_group(group)
    assert len(set(processes)) == 3


def test_a_memory_that_cannot_hold_the_trials_is_named():
    """The GPU holds four such trials, the machine two: four are not even tried."""

    class Device:
        def measure(self, config, at_once, seconds):
            return [Measured({}, 100.0, 1.0, 500.0, 0.0)] * at_once

    limits = [Limit(1_000, 5_000), Limit(3_000, 8_000, " of the machine's memory")]
    levels = [_level(Device(), None, n, limits) for n in (1, 2, 4)]
    assert [level.images_per_second for level in levels] == [100.0, 200.0, None]
    assert levels[2].reason == "would need 12,000 MB of the machine's memory"
    assert [level.memory_mb for level in levels] == [1_000, 2_000, 4_000]  # that of the GPU


def test_the_machines_memory_is_shared_by_its_gpus(monkeypatch):
    node = {"NodeID": "mine", "Resources": {"GPU": 4.0}}
    ray = SimpleNamespace(get=lambda value: value, nodes=lambda: [node, {"NodeID": "other", "Resources": {}}])
    device = MeasuredDevice(ray, None, None, "cuda", 4.0, 0)
    monkeypatch.setattr(MeasuredDevice, "_remote", lambda *_: SimpleNamespace(remote=lambda: (64_000.0, "mine")))
    assert device.host_share_mb() == 16_000
