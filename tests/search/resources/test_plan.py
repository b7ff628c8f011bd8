"""`winnow plan`: the figures that follow from the settings, and that it trains and imports nothing unless it probes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.conftest import REPOSITORY
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.data.source import Source, load_data
from winnow.search.operations import probing
from winnow.search.operations.planning import brackets, estimate, expected_rungs, forecast_search
from winnow.search.resources.largest_config import largest_config, sample_configs
from winnow.search.schedulers.asha import Asha
from winnow.search.settings import settings_for
from winnow.search.training.speed_probe import Measured, estimate_memory_mb, measure
from winnow.spaces import catalog
from winnow.spaces.errors import InputError


def test_brackets_are_those_of_the_paper():
    """Li et al. (2020), table 1: R = 9, r = 1, eta = 3."""
    found = brackets(settings_for(catalog.load("digits", ["epochs=9"]), grace_epochs=1))
    assert [(b.number, b.grace_epochs, b.rungs) for b in found] == [(0, 1, [1, 3]), (1, 3, [3]), (2, 9, [])]


def test_expected_trials_lie_between_halving_and_everything():
    settings = settings_for(catalog.load("digits", ["epochs=27"]), trials=300, grace_epochs=1)
    rungs = expected_rungs(settings)
    assert [rung.epoch for rung in rungs] == [1, 3, 9, 27]
    for k, rung in enumerate(rungs):
        assert 0.75 * 300 / 3**k <= rung.low <= rung.expected <= rung.high <= 300
        assert k == 0 or rung.high < rungs[k - 1].high
    assert rungs[0].low == rungs[0].high == 300


def test_a_large_search_is_planned_at_once_and_like_a_small_one():
    small, large = (
        expected_rungs(settings_for(catalog.load("digits"), trials=trials))[-1].expected / trials
        for trials in (500, 50_000)
    )
    assert large == pytest.approx(small)


def test_the_epochs_are_those_of_a_search_that_this_rule_stops():
    """What is simulated once more here, by itself: trials whose rungs agree wholly, and not at all."""
    settings = settings_for(catalog.load("digits", ["epochs=9"]), trials=40, grace_epochs=1)
    planned = forecast_search(settings)
    generator = torch.Generator().manual_seed(0)
    totals = []
    for _ in range(30):
        asha, total = Asha(1, 3, 9, "maximize"), 0
        for trial in range(40):
            for epoch in range(1, 10):
                total += 1
                if not asha.judge(trial, epoch, float(torch.rand(1, generator=generator))):
                    break
        totals.append(total)
    assert planned.epochs_low * 0.95 < sum(totals) / 30 < planned.epochs_high * 1.05


def test_an_audit_costs_epochs_and_is_counted():
    space = catalog.load("digits", ["epochs=9"])
    without, whole = (forecast_search(settings_for(space, trials=40, grace_epochs=1, audit=a)) for a in (0.0, 1.0))
    assert whole.epochs == pytest.approx(40 * 9)
    assert without.epochs < whole.epochs


def test_no_probe_needs_no_torch_and_no_data():
    code = (
        "import sys\nfrom winnow.search.cli.main import main\n"
        "try:\n    main(['plan', 'cifar100-cnn', '--no-probe', '--json', '--trials', '30'])\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'torchvision', 'ray', 'optuna', 'pandas', 'plotly'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["trials"], said["estimate"]) == (30, None)
    assert [rung["epoch"] for rung in said["rungs"]] == [3, 9, 27, 50]


# --- the probe ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits():
    space = catalog.load("digits")
    return space, load_data(space, Source(REPOSITORY / "data"))


def test_the_largest_config_is_at_the_ends(digits):
    space, data = digits
    largest = largest_config(space, data)
    assert [stage.filters for stage in largest.model.stages] == [64] * 4
    assert {stage.pool for stage in largest.model.stages} == {"none"}
    assert largest.batch_size == 128
    assert largest.optimizer.name in ("adam", "adamw")  # two copies of the weights; sgd keeps one


def test_sampled_configs_can_be_built_and_are_those_of_the_seed(digits):
    space, data = digits
    first, again, other = (sample_configs(space, data, 5, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len(first) == 5
    assert not any(space.infeasible(config.model_dump(mode="json"), data.image_shape) for config in first)


def test_a_probe_agrees_with_the_training_it_stands_for(digits):
    """The epoch time predicted from a part of it, against real epochs of the same loop; the machine may be busy."""
    from winnow.search.training.device_data import DeviceData
    from winnow.search.training.loop import train

    space, data = digits
    config = sample_configs(space, data, 3, 0)[0].model_copy(update={"epochs": 6})
    device = torch.device("cpu")
    found = measure(config, data, device, seconds=0.3)
    epochs = list(train(config, DeviceData.build(data, config.data, device, 0), device, 0))
    real = sorted(epoch.wall_seconds for epoch in epochs)[len(epochs) // 2]
    assert real / 4 < found.epoch_seconds < 4 * real
    assert found.memory_mb > 50
    assert found.images_per_second > 0


def test_a_slow_first_step_does_not_shrink_what_is_measured(digits, monkeypatch):
    """On a GPU it loads libraries: the epochs that are timed still hold as many batches as a usual step allows."""
    from winnow.search.training import speed_probe as probe

    space, data = digits
    sizes = []

    def slow_at_first(config, part, device, seed):
        for result in train(config, part, device, seed):
            sizes.append(part.num_train)
            yield replace(result, wall_seconds=0.5 if len(sizes) == 1 else 0.001)

    train = probe.train
    monkeypatch.setattr(probe, "train", slow_at_first)
    config = sample_configs(space, data, 3, 0)[0]
    measure(config, data, torch.device("cpu"), seconds=0.3)
    assert sizes[:2] == [config.batch_size] * 2
    assert min(sizes[2:]) >= min(probe.MAX_BATCHES * config.batch_size, 1000)


def test_on_a_gpu_the_probe_has_a_full_chunk_and_a_batch_of_the_evaluation(digits):
    """A trial has them from its first epoch on, and the memory of several has to fit."""
    from winnow.search.training import speed_probe as probe
    from winnow.search.training.device_data import DeviceData

    space, data = digits
    config = sample_configs(space, data, 1, 0)[0].model_copy(update={"batch_size": 8})
    whole = DeviceData.build(data, config.data, torch.device("cpu"), 0)
    assert whole.validation is not None
    on_cpu, on_gpu = (probe._cut(whole, 8, 1, torch.device(name)) for name in ("cpu", "cuda"))
    assert (len(on_cpu.train), len(on_cpu.validation)) == (8, 8)
    assert len(on_gpu.train) == len(whole.train), "all of digits are one chunk"
    assert len(on_gpu.validation) == 256


FAILING = """
import math, sys
from torch import nn

class Net(nn.Sequential):
    def forward(self, images):
        if self.training and images.device.type != "meta":
            if self.do == "leave": sys.exit(3)
            raise RuntimeError("no such network")
        return super().forward(images)

def build(image_shape, num_classes, do):
    if do == "refuse": raise ValueError("too wide")
    net = Net(nn.Flatten(), nn.Linear(math.prod(image_shape), num_classes))
    net.do = do
    return net
"""


def test_a_model_that_fails_in_the_probe_is_named(tmp_path, monkeypatch):
    (tmp_path / "failing_nets.py").write_text(FAILING)
    monkeypatch.chdir(tmp_path)

    def probed(do: str) -> Measured | None:
        config = tiny_config(model={"name": "failing_nets:build", "do": do})
        result = probing._probe_one(tiny_data(), config, str(tmp_path / "beat"), "cpu", 1, 0, 0.1)
        return probing._measured(config, result)

    for do, problem in (("raise", "RuntimeError: no such network"), ("leave", "SystemExit: 3")):
        with pytest.raises(InputError) as raised:
            probed(do)
        assert str(raised.value) == f"model failing_nets:build: its probe ended as failed: {problem}"
    assert probed("refuse") is None  # such a trial is infeasible, and the search continues


def test_a_learning_rate_that_would_diverge_is_measured_all_the_same(digits):
    space, data = digits
    config = sample_configs(space, data, 1, 0)[0]
    wild = config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": 1e30})})
    assert measure(wild, data, torch.device("cpu"), seconds=0.05).epoch_seconds > 0


def test_the_estimate_of_memory_counts_weights_states_and_outputs(digits):
    space, data = digits
    adam = sample_configs(space, data, 1, 0)[0].model_copy(update={"batch_size": 64})
    small, wide = (estimate_memory_mb(adam, weights, 1000) for weights in (0, 2**20))
    assert wide - small in (12.0, 16.0)  # weights, gradients, and one or two states of each, 4 bytes
    assert estimate_memory_mb(adam, 0, 2 * 2**20) - estimate_memory_mb(adam, 0, 2**20) == 4 * 2 * 64


def test_the_range_holds_the_estimate_and_shrinks_with_the_workers():
    planned = forecast_search(settings_for(catalog.load("digits"), trials=24))
    measured = [Measured({}, 1000.0, seconds, 500.0, 0.0) for seconds in (0.1, 0.2, 0.3)]
    largest = Measured({}, 100.0, 1.0, 900.0, 0.0)
    one, two = (estimate(planned, measured, largest, n, 20.0, on_gpu=False) for n in (1, 2))
    for found in (one, two):
        assert found.seconds_low <= found.seconds <= found.seconds_high
    assert two.seconds < one.seconds
    assert one.seconds == pytest.approx(20 + planned.epochs * (0.2 + 0.03))
    assert one.memory_mb == 900.0
