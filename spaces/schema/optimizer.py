"""The optimizers that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, model_validator

from winnow.spaces.schema.fields import Fraction, NonNegative, Positive, Strict


class Sgd(Strict):
    name: Literal["sgd"]
    lr: Positive
    """Largest learning rate; the schedule makes it smaller."""
    momentum: Fraction = 0.0
    """Share of the last step that is added to the next."""
    nesterov: bool = False
    """Nesterov's momentum: the gradient of where the momentum leads."""
    weight_decay: NonNegative = 0.0
    """L2: this times the weights is added to the gradient."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class _AdamKeys(Strict):
    name: str
    lr: Positive
    """Largest learning rate; the schedule makes it smaller."""
    beta1: Fraction = 0.9
    """Decay of the mean of the gradients."""
    beta2: Fraction = 0.999
    """Decay of the mean of their squares."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    weight_decay: NonNegative = 0.0
    """Added to the gradient (L2), as in torch.optim.Adam; decoupled in `adamw`."""


class Adam(_AdamKeys):
    name: Literal["adam"]


class AdamW(_AdamKeys):
    name: Literal["adamw"]
    weight_decay: NonNegative = 0.01
    """Decoupled: lr times this times the weights is taken off them (Loshchilov & Hutter, 2019)."""


class RmsProp(Strict):
    name: Literal["rmsprop"]
    lr: Positive
    """Largest learning rate; the schedule makes it smaller."""
    alpha: Fraction = 0.99
    """Decay of the mean of the squared gradients."""
    eps: Positive = 1e-8
    """Added to the denominator."""
    momentum: Fraction = 0.0
    """Share of the last step that is added to the next."""
    weight_decay: NonNegative = 0.0
    """L2: this times the weights is added to the gradient."""


Optimizer = Annotated[Sgd | Adam | AdamW | RmsProp, Discriminator("name")]
