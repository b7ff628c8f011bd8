"""Schedules: corner points, and the same numbers as torch's where torch has the schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from tests.helpers.tiny import CPU, schema_names, tiny_config, tiny_data
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import TrainingState
from winnow.search.training.optimizers import OPTIMIZERS
from winnow.search.training.ranks import Rank
from winnow.search.training.schedules import SCHEDULES, Plateau, lr_factor
from winnow.spaces import schema

STEPS_PER_EPOCH, EPOCHS = 5, 8
TOTAL = STEPS_PER_EPOCH * EPOCHS


def factors(settings: schema.Schedule) -> list[float]:
    return [lr_factor(settings, step, TOTAL, STEPS_PER_EPOCH) for step in range(TOTAL)]


def test_the_registry_holds_what_the_schema_names() -> None:
    assert set(SCHEDULES) == schema_names(schema.BuiltInSchedule)


PER_EPOCH: list[tuple[schema.Schedule, Callable[[Any], Any]]] = [
    (schema.StepDecay(name="step", every=3, gamma=0.5), lambda o: lr_scheduler.StepLR(o, 3, 0.5)),
    (
        schema.MultiStep(name="multistep", milestones=[2, 6], gamma=0.1),
        lambda o: lr_scheduler.MultiStepLR(o, [2, 6], 0.1),
    ),
    (schema.Exponential(name="exponential", gamma=0.9), lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
]
PER_STEP: list[tuple[schema.Schedule, Callable[[Any], Any]]] = [
    (
        schema.Cosine(name="cosine", final=0.1),
        lambda o: lr_scheduler.CosineAnnealingLR(o, TOTAL, eta_min=0.1),
    ),
    (
        schema.OneCycle(name="one_cycle", peak=0.25, initial=0.04, final=0.001),
        lambda o: lr_scheduler.OneCycleLR(
            o, 1.0, total_steps=TOTAL, pct_start=0.25, div_factor=25, final_div_factor=40, cycle_momentum=False
        ),
    ),
]


@pytest.mark.parametrize(("settings", "make"), PER_EPOCH, ids=lambda value: getattr(value, "name", ""))
def test_epoch_schedules_are_torchs(settings: schema.Schedule, make: Callable[[Any], Any]) -> None:
    expected = [lr for lr in torch_lrs(make, EPOCHS) for _ in range(STEPS_PER_EPOCH)]
    assert factors(settings) == pytest.approx(expected)


@pytest.mark.parametrize(("settings", "make"), PER_STEP, ids=lambda value: getattr(value, "name", ""))
def test_step_schedules_are_torchs(settings: schema.Schedule, make: Callable[[Any], Any]) -> None:
    assert factors(settings) == pytest.approx(torch_lrs(make, TOTAL))


def torch_lrs(make: Callable[[Any], Any], num: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    lrs = []
    for _ in range(num):
        lrs.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return lrs


@pytest.mark.parametrize(
    "settings",
    [
        schema.Constant(warmup=2.0),
        schema.StepDecay(name="step", every=5, warmup=2.0),
        schema.MultiStep(name="multistep", milestones=[5], warmup=2.0),
        schema.Cosine(name="cosine", warmup=2.0),
        schema.Plateau(name="plateau", warmup=2.0),
    ],
    ids=lambda settings: settings.name,
)
def test_warm_up_rises_linearly_and_ends_at_one(settings: schema.Schedule) -> None:
    assert factors(settings)[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors(settings)[10] == pytest.approx(1.0)


def test_cosine_covers_what_warm_up_leaves() -> None:
    whole = factors(schema.Cosine(name="cosine", warmup=4.0))
    assert whole[20] == 1.0
    assert whole[30] == pytest.approx(0.5, abs=1e-3)
    assert 0 < whole[-1] < 0.02


@hypothesis_settings(deadline=None)
@given(
    warmup=st.floats(0, 20),
    total_epochs=st.integers(1, 12),
    steps=st.integers(1, 7),
    name=st.sampled_from(["constant", "cosine", "exponential", "one_cycle", "step"]),
)
def test_factors_stay_between_0_and_1(warmup: float, total_epochs: int, steps: int, name: str) -> None:
    more = {"exponential": {"gamma": 0.5}, "step": {"every": 1}}.get(name, {})
    if name != "one_cycle":
        more = {**more, "warmup": warmup}
    settings = schema.Config.model_validate(
        {
            "data": "digits",
            "epochs": total_epochs,
            "batch_size": 1,
            "model": {"name": "mlp", "hidden": []},
            "optimizer": {"name": "sgd", "lr": 1.0},
            "schedule": {"name": name, **more},
        }
    ).schedule
    values = [lr_factor(settings, step, total_epochs * steps, steps) for step in range(total_epochs * steps)]
    assert all(0 <= value <= 1 for value in values)
    assert max(values) > 0


@hypothesis_settings(deadline=None)
@given(losses=st.lists(st.floats(0, 10), min_size=1, max_size=40), patience=st.integers(0, 4))
def test_plateau_is_torchs(losses: list[float], patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0.0, eps=0.0)
    plateau = Plateau(factor=0.5, patience=patience)
    for epoch, loss in enumerate(losses, start=1):
        plateau.observe(epoch, loss)
        reference.step(loss)
        assert plateau.scale == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    "optimizer", [{"name": "sgd", "lr": 0.1, "momentum": 0.95}, {"name": "adam", "lr": 0.1, "beta1": 0.95}]
)
def test_one_cycle_moves_the_momentum_as_torch_does(optimizer: dict[str, Any]) -> None:
    schedule = {"name": "one_cycle", "peak": 0.3, "lowest_momentum": 0.85}
    config = tiny_config(epochs=5, optimizer=optimizer, schedule=schedule)
    data = DeviceData.build(tiny_data(), config.data, CPU, 0)
    state = TrainingState.start(config, data, CPU, 0, Rank(), 1)
    steps = state.batches.steps_per_epoch
    parameters = [torch.nn.Parameter(torch.zeros(1))]
    reference: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.95)
    if optimizer["name"] == "adam":
        reference = torch.optim.Adam(parameters, lr=0.1, betas=(0.95, 0.999))
    cycle = lr_scheduler.OneCycleLR(reference, 0.1, 5 * steps, pct_start=0.3, base_momentum=0.85, max_momentum=0.95)
    for step in range(5 * steps):
        state._set_momentum(step, 5 * steps)
        for key in ("momentum", "betas"):
            assert state.optimizer.param_groups[0].get(key) == pytest.approx(reference.param_groups[0].get(key)), step
        reference.step()
        cycle.step()
    state.run_epoch()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_momentum_cycles_with_every_optimizer_that_has_one(name: str) -> None:
    optimizer: dict[str, Any] = {"name": name, "lr": 0.01}
    if name in ("sgd", "rmsprop"):
        optimizer["momentum"] = 0.9
    schedule = {"name": "one_cycle", "peak": 0.5, "lowest_momentum": 0.5}
    if name in ("adagrad", "adadelta", "adafactor", "asgd"):
        with pytest.raises(ValueError, match=f"needs an optimizer with a momentum, but {name} has none"):
            tiny_config(optimizer=optimizer, schedule=schedule)
        return
    config = tiny_config(epochs=2, optimizer=optimizer, schedule=schedule)
    state = TrainingState.start(config, DeviceData.build(tiny_data(), config.data, CPU, 0), CPU, 0, Rank(), 1)
    state._set_momentum(50, 101)
    group = state.optimizer.param_groups[0]
    assert (group["momentum"] if "momentum" in group else group["betas"][0]) == pytest.approx(0.5, abs=1e-3)
    state.run_epoch()


def test_no_momentum_cycles_in_decoupled_form() -> None:
    """The learning rate that torch receives is corrected for one momentum."""
    optimizer = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "decoupled": True}
    with pytest.raises(ValueError, match=r"lowest_momentum cannot be combined with optimizer\.decoupled"):
        tiny_config(optimizer=optimizer, schedule={"name": "one_cycle", "lowest_momentum": 0.85})


def test_the_lowest_momentum_lies_below_that_of_the_optimizer() -> None:
    with pytest.raises(ValueError, match=r"must not be above the momentum of the optimizer, 0, but got 0.85"):
        tiny_config(optimizer={"name": "sgd", "lr": 0.1}, schedule={"name": "one_cycle", "lowest_momentum": 0.85})
