"""Training in float16: the loss is scaled, steps whose gradients overflow are skipped, and both are resumed exactly.

Scaling by a power of two is exact, so most tests let the network compute in float32 with a scaled loss and ask for equality.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tiny import CPU, figures, same_tensors, tiny_config, tiny_data
from tests.search.training.test_resume import assert_exact
from winnow.search.training import loop, loss_scaling, precision
from winnow.search.training.device_data import DeviceData
from winnow.search.training.epoch_result import EpochResult
from winnow.search.training.loop import TrainingState, train
from winnow.search.training.optimizers import OPTIMIZERS
from winnow.search.training.ranks import Rank
from winnow.spaces.errors import InputError
from winnow.spaces.schema import Config

GPU = torch.device("cuda", 0)
OVERFLOWS = 2.0**127
"""A scale at which gradients of the tiny trainings overflow also in float32."""


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU count as one that computes float16; torch does so on any."""
    monkeypatch.setattr(precision, "has_float16", lambda device: True)


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale the loss of `precision: float32` as in float16."""
    monkeypatch.setattr(loop, "number_type", lambda *arguments: torch.float16)


def finished(config: Config, **more: Any) -> tuple[list[EpochResult], dict[str, torch.Tensor]]:
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    results = []
    for result in train(config, data, CPU, 7, **more):
        results.append(result)
        weights = result.weights()
    return results, weights


@pytest.mark.usefixtures("on_cpu")
def test_float16_trains_as_float32_up_to_rounding() -> None:
    changes = {"optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9}, "gradient_clip": 1.0}
    expected, in_float32 = finished(tiny_config(precision="float32", **changes))
    results, weights = finished(tiny_config(precision="float16", **changes))
    assert not same_tensors(weights, in_float32)
    for one, other in zip(results, expected, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=2e-2)  # float16 has eleven bits
        assert one.lr == other.lr


@pytest.mark.usefixtures("on_cpu")
def test_gradients_that_float16_cannot_hold_are_trained_with() -> None:
    """Class weights of 1e-7 make gradients that are zero in float16 unless the loss is scaled."""
    config = tiny_config(
        precision="float16",
        model={"name": "mlp", "hidden": [8]},
        optimizer={"name": "sgd", "lr": 1e6},
        loss={"name": "cross_entropy", "class_weights": [1e-7] * 3},
        epochs=20,
    )
    results, _ = finished(config)
    assert results[-1].train_loss < 0.5 * results[0].train_loss


OPTIMIZER_SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True, "norm_bias_lr_factor": 4.0},
    "rmsprop": {"momentum": 0.5},
}


def optimizer_of(name: str) -> dict[str, Any]:
    return {"name": name, "lr": 0.01, "weight_decay": 0.01, **OPTIMIZER_SETTINGS.get(name, {})}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_scaled_loss_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With clipping, an average and pieces of batches: gradients are clipped after the scale is taken off."""
    config = tiny_config(
        optimizer=optimizer_of(name), precision="float32", gradient_clip=0.1, averaging={"name": "ema", "every": 2}
    )
    expected, weights = finished(config, micro_batches=3)
    monkeypatch.setattr(loop, "number_type", lambda *arguments: torch.float16)
    results, scaled_weights = finished(config, micro_batches=3)
    assert [figures(result) for result in results] == [figures(result) for result in expected]
    assert same_tensors(scaled_weights, weights)


@pytest.mark.parametrize("averaging", [None, "ema", "lookahead"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_that_overflows_is_as_if_it_had_not_been(
    name: str, averaging: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compared with a training in which the same steps are left out by hand: weights, averages, momentum, counts of steps."""
    config = tiny_config(
        optimizer=optimizer_of(name),
        precision="float32",
        schedule={"name": "cosine"},
        averaging=averaging and {"name": averaging, "every": 2},
        loss={"name": "cross_entropy", "class_weights": [8.0] * 3},
        gradient_clip=1.0,
    )
    monkeypatch.setattr(loss_scaling, "INITIAL_SCALE", OVERFLOWS)
    monkeypatch.setattr(loss_scaling, "GROWTH_INTERVAL", 3)
    expected_skips: set[int] = set()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "number_type", lambda *arguments: torch.float16)
        training, results = with_steps_left_out(config, set(), expected_skips)
    assert 1 in expected_skips
    assert len(expected_skips) < NUM_STEPS / 2
    other, expected = with_steps_left_out(config, expected_skips, set())
    assert [figures(result) for result in results] == [figures(result) for result in expected]
    assert not results[-1].diverged
    assert same_tensors(training.weights(), other.weights())
    assert same_tensors(training.model.state_dict(), other.model.state_dict())


NUM_STEPS = 12
"""Steps of a tiny training."""


def with_steps_left_out(
    config: Config, left_out: set[int], skipped: set[int]
) -> tuple[TrainingState, list[EpochResult]]:
    """Train without some steps of the optimizer, by number from 1; note those that the scaler skips."""
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    training = TrainingState.start(config, data, CPU, 7, Rank(), 1)
    update, numbers = training._update, iter(range(1, NUM_STEPS + 1))

    def counted(*arguments: Any) -> None:
        number, scale = next(numbers), training.scaler.get_scale()
        with pytest.MonkeyPatch.context() as patch:
            if number in left_out:
                patch.setattr(training.optimizer, "step", lambda: None)
            update(*arguments)
        if training.scaler.get_scale() < scale:
            skipped.add(number)

    training._update = counted  # type: ignore[method-assign]
    results = []
    while not training.ended:
        results.append(training.run_epoch())
    return training, results


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_resumed_training_has_its_scale(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scale overflows at the beginning and grows every fifth step, so it is another one after each epoch."""
    monkeypatch.setattr(precision, "has_float16", lambda device: True)
    monkeypatch.setattr(loss_scaling, "INITIAL_SCALE", 2.0**24)
    monkeypatch.setattr(loss_scaling, "GROWTH_INTERVAL", 5)
    config = tiny_config(optimizer=optimizer_of(name), precision="float16", gradient_clip=1.0, epochs=6)
    assert_exact(config, tmp_path)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    scales = [result.state()["scaler"]["scale"] for result in train(config, data, CPU, 7)]
    assert scales[0] < 2.0**24
    assert len(set(scales)) > 2


@pytest.mark.usefixtures("on_cpu")
def test_a_trial_may_continue_on_a_device_with_other_numbers() -> None:
    """A cluster may have GPUs with bfloat16 and without; checkpoints of earlier versions know no scale."""
    data = DeviceData.build(tiny_data(), tiny_config().data, CPU, 0)
    half, single = tiny_config(precision="float16"), tiny_config(precision="float32")
    for first, then in ((half, single), (single, half)):
        state = next(train(first, data, CPU, 7)).state()
        assert len(list(train(then, data, CPU, 7, checkpoint=state))) == 3
    del state["scaler"]
    assert len(list(train(half, data, CPU, 7, checkpoint=state))) == 3


@pytest.mark.usefixtures("scaled")
def test_gradients_that_overflow_at_every_scale_end_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would go on for ever without a step."""
    config = tiny_config(precision="float32", epochs=40)
    monkeypatch.setattr(loop, "_loss_of", lambda *arguments: _FiniteWithoutGradient.apply(arguments[1]).mean())
    results, _ = finished(config)
    assert results[-1].diverged
    assert results[-1].validation_loss is None
    assert math.isnan(results[-1].train_loss)
    assert [result.diverged for result in results[:-1]] == [False] * 10  # 31 overflows, three in an epoch


class _FiniteWithoutGradient(torch.autograd.Function):
    """The identity, whose gradient is not a number."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return gradient * math.nan


def test_where_float16_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Linear(1, 1)
    monkeypatch.setattr(precision, "_cpu_has", lambda flags: False)
    precision.has_float16.cache_clear()
    try:
        with pytest.raises(InputError, match=r"precision: float16, but .* in software only on the device cpu"):
            precision.number_type("float16", CPU, network)
        with pytest.raises(InputError, match="precision: float16, but Winnow has not tried it on the device mps"):
            precision.number_type("float16", torch.device("mps"), network)
        assert precision.number_type("float16", GPU, network) == torch.float16
    finally:
        precision.has_float16.cache_clear()


@pytest.mark.parametrize(
    ("name", "capability", "expected"),
    [
        ("NVIDIA H100", (9, 0), torch.bfloat16),
        ("NVIDIA A100-SXM4-40GB", (8, 0), torch.bfloat16),
        ("Tesla T4", (7, 5), torch.float16),
        ("Tesla V100-SXM2-16GB", (7, 0), torch.float16),
        ("NVIDIA GeForce RTX 2080 Ti", (7, 5), torch.float16),
        ("Tesla P100-PCIE-16GB", (6, 0), torch.float32),
        ("NVIDIA GeForce GTX 1660 Ti", (7, 5), torch.float32),
        ("NVIDIA T1000 8GB", (7, 5), torch.float32),
    ],
)
def test_what_auto_chooses(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], expected: torch.dtype
) -> None:
    """A stand-in for torch's CUDA: `is_bf16_supported` asks for the major capability."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capability >= (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    for answer in (precision.has_bfloat16, precision.has_fast_float16):
        answer.cache_clear()
    try:
        grouped = torch.nn.Conv2d(2, 2, 3, groups=2)
        assert precision.number_type("auto", GPU, grouped) == expected
    finally:
        for answer in (precision.has_bfloat16, precision.has_fast_float16):
            answer.cache_clear()
