"""The learning-rate schedules that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Count, Fraction, Metric, NonNegative, Strict
from winnow.spaces.schema.own import OwnSchedule, kind_of

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(gt=0.0, le=1.0)]


class _Schedule(Strict):
    warmup: NonNegative = 0.0
    """Length of the linear warm-up from 0 to the peak learning rate, in epochs; may be fractional."""


class Constant(_Schedule):
    """Constant learning rate, apart from the warm-up."""

    name: Literal["constant"] = "constant"


class StepDecay(_Schedule):
    """Step decay: multiply the learning rate by `gamma` every `every` epochs."""

    name: Literal["step"]
    every: Count
    """Number of epochs between two decays."""
    gamma: Decay = 0.1
    """Factor by which each decay multiplies the learning rate."""


class MultiStep(_Schedule):
    """Multi-step decay: multiply the learning rate by `gamma` after each of the epochs in `milestones`."""

    name: Literal["multistep"]
    milestones: Annotated[list[Count], Field(min_length=1)]
    """Epochs after which the learning rate decays, ascending."""
    gamma: Decay = 0.1
    """Factor by which each decay multiplies the learning rate."""

    @model_validator(mode="after")
    def _ascending(self) -> MultiStep:
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must ascend, but got {self.milestones}")
        return self


class Exponential(_Schedule):
    """Exponential decay: multiply the learning rate by `gamma` every epoch."""

    name: Literal["exponential"]
    gamma: Decay
    """Factor by which the learning rate is multiplied every epoch."""


class Cosine(_Schedule):
    """Cosine decay from lr to `final` * lr over the epochs after the warm-up, without restarts (Loshchilov & Hutter, 2017)."""

    name: Literal["cosine"]
    final: Share = 0.0
    """Final learning rate as a fraction of the peak."""


class OneCycle(Strict):
    """One-cycle policy: rise from `initial` * lr to lr, then decay to `final` * lr, along a cosine or a line (Smith & Topin, 2018)."""

    name: Literal["one_cycle"]
    peak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    """Fraction of the training at which the learning rate peaks."""
    initial: Share = 0.04
    """Initial learning rate as a fraction of the peak."""
    final: Share = 0.0001
    """Final learning rate as a fraction of the peak."""
    shape: Literal["cosine", "linear"] = "cosine"
    """Shape of both phases."""
    lowest_momentum: Fraction | None = None
    """Momentum at the peak of the learning rate. It falls from the optimizer's momentum (`beta1` of Adam) as the learning rate rises, and returns to it as the learning rate decays. null: constant momentum."""


class Plateau(_Schedule):
    """Reduce on plateau: multiply the learning rate by `factor` when a metric stops improving.

    Retraining has no validation split: it reduces the learning rate after the same epochs as the search.
    """

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Factor by which each reduction multiplies the learning rate."""
    patience: Annotated[int, Field(ge=0)] = 5
    """Number of epochs without improvement that are allowed before the learning rate is reduced."""
    metric: Metric = "validation_loss"
    """Metric to monitor. Without validation images and `reductions`, the training loss is monitored instead."""
    reductions: Annotated[list[Count] | None, Field(exclude_if=lambda value: value is None)] = None
    """Epochs after which the learning rate is reduced, ascending, instead of monitoring a metric. Retraining sets them to those of the search."""


BuiltInSchedule = Constant | StepDecay | MultiStep | Exponential | Cosine | OneCycle | Plateau
Schedule = Annotated[
    Annotated[BuiltInSchedule, Discriminator("name"), Tag("built_in")] | Annotated[OwnSchedule, Tag("own")],
    Discriminator(kind_of),
]
