"""Learning-rate schedules by name: pure functions of the step that return the factor of the peak learning rate.

Only `plateau` has a state, because it depends on earlier epochs: the loop keeps a `Plateau` and also multiplies by its `scale`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from winnow.spaces import own_code, schema


def lr_factor(settings: schema.Schedule, step: int, total_steps: int, steps_per_epoch: int) -> float:
    """Return the factor of the peak learning rate at a step, warm-up included.

    The warm-up rises linearly from 0 and reaches 1 with its last step. Cosine covers the steps after the warm-up.

    Args:
        settings: The `schedule` section of a config.
        step: The optimizer step, counted from 0.
        total_steps: Optimizer steps of the whole training.
        steps_per_epoch: Optimizer steps of one epoch.
    """
    if isinstance(settings, schema.OwnSchedule):
        function = own_code.load("schedule", settings.name)
        return float(function(step=step, total_steps=total_steps, steps_per_epoch=steps_per_epoch, **settings.keys))
    warmup_steps = round(getattr(settings, "warmup", 0.0) * steps_per_epoch)
    rise = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
    if isinstance(settings, schema.Cosine):
        step, total_steps = max(0, step - warmup_steps), max(1, total_steps - warmup_steps)
    return rise * SCHEDULES[settings.name](settings, step, total_steps, steps_per_epoch)


def momentum_at(settings: schema.Schedule, momentum: float, step: int, total_steps: int) -> float:
    """Return the momentum at a step: that of the optimizer, unless a one-cycle schedule changes it opposite to the learning rate.

    Args:
        settings: The `schedule` section of a config.
        momentum: Momentum of the optimizer.
        step: The optimizer step, counted from 0.
        total_steps: Optimizer steps of the whole training.
    """
    if not isinstance(settings, schema.OneCycle) or settings.lowest_momentum is None:
        return momentum
    return _one_cycle_phases(settings, momentum, settings.lowest_momentum, momentum, step, total_steps)


@dataclass
class Plateau:
    """Multiplies `scale` by `factor` after more than `patience` epochs without a new lowest value, or after given epochs."""

    factor: float
    patience: int
    reductions: Sequence[int] | None = None
    """Epochs after which the scale is reduced, whatever the values are; None: the values decide."""
    best: float = math.inf
    num_bad: int = 0
    scale: float = 1.0

    def observe(self, epoch: int, value: float) -> None:
        """Record the value of an epoch, and reduce the scale if that is due.

        Args:
            epoch: The epoch, counted from 1.
            value: The observed value; lower is better.
        """
        if self.reductions is not None:
            self.scale = self.factor ** bisect_right(self.reductions, epoch)
            return
        if value < self.best:
            self.best, self.num_bad = value, 0
            return
        self.num_bad += 1
        if self.num_bad > self.patience:
            self.scale, self.num_bad = self.scale * self.factor, 0


def _constant(settings: schema.Schedule, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return 1.0


def _step(settings: schema.StepDecay, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return settings.gamma ** (step // steps_per_epoch // settings.every)


def _multistep(settings: schema.MultiStep, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return settings.gamma ** bisect_right(settings.milestones, step // steps_per_epoch)


def _exponential(settings: schema.Exponential, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return settings.gamma ** (step // steps_per_epoch)


def _cosine(settings: schema.Cosine, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return _half_cosine(1.0, settings.final, step / total_steps)


def _one_cycle(settings: schema.OneCycle, step: int, total_steps: int, steps_per_epoch: int) -> float:
    return _one_cycle_phases(settings, settings.initial, 1.0, settings.final, step, total_steps)


def _one_cycle_phases(
    settings: schema.OneCycle, start: float, turn: float, end: float, step: int, total_steps: int
) -> float:
    """Return the value of the two phases at a step; they end at the same steps as those of torch's OneCycleLR."""
    peak_step, last_step = settings.peak * total_steps - 1, total_steps - 1
    if step <= peak_step:
        return _SHAPES[settings.shape](start, turn, step / peak_step if peak_step > 0 else 1.0)
    return _SHAPES[settings.shape](turn, end, (step - peak_step) / (last_step - peak_step))


def _half_cosine(start: float, end: float, share: float) -> float:
    """Return the value of the half cosine from `start` at share 0 to `end` at share 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _line(start: float, end: float, share: float) -> float:
    """Return the value on the line from `start` at share 0 to `end` at share 1."""
    return start + (end - start) * share


_SHAPES = {"cosine": _half_cosine, "linear": _line}

SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": _constant,
    "step": _step,
    "multistep": _multistep,
    "exponential": _exponential,
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "plateau": _constant,
}
