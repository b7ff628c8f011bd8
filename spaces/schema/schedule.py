"""The learning-rate schedules that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, model_validator

from winnow.spaces.schema.fields import Count, NonNegative, Strict


class _Schedule(Strict):
    warmup: NonNegative = 0.0
    """Epochs over which the learning rate first rises linearly from 0."""


class Constant(_Schedule):
    name: Literal["constant"] = "constant"


class StepDecay(_Schedule):
    """Times `gamma` every `every` epochs."""

    name: Literal["step"]
    every: Count
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1


class MultiStep(_Schedule):
    """Times `gamma` after each of the epochs in `milestones`."""

    name: Literal["multistep"]
    milestones: Annotated[list[Count], Field(min_length=1)]
    gamma: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1

    @model_validator(mode="after")
    def _ascending(self) -> MultiStep:
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must ascend, but got {self.milestones}")
        return self


class Exponential(_Schedule):
    """Times `gamma` every epoch."""

    name: Literal["exponential"]
    gamma: Annotated[float, Field(gt=0.0, le=1.0)]


class Cosine(_Schedule):
    """From lr to `final` * lr along half a cosine over the whole training (Loshchilov & Hutter, 2017)."""

    name: Literal["cosine"]
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0


class OneCycle(Strict):
    """Up from `initial` * lr to lr until `peak` (a share of the training), then down to `final` * lr (Smith & Topin, 2018)."""

    name: Literal["one_cycle"]
    peak: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.3
    initial: Annotated[float, Field(ge=0.0, le=1.0)] = 0.04
    final: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0001


class Plateau(_Schedule):
    """Times `factor` when the validation loss has not improved for more than `patience` epochs."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    patience: Annotated[int, Field(ge=0)] = 5


Schedule = Annotated[
    Constant | StepDecay | MultiStep | Exponential | Cosine | OneCycle | Plateau, Discriminator("name")
]
