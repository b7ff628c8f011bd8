"""The optimizers that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, model_validator

from winnow.spaces.schema.fields import Fraction, NonNegative, Positive, Strict


class _Optimizer(Strict):
    name: str
    lr: Positive
    """Peak learning rate; scaled by the schedule."""


class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Fraction = 0.0
    """Momentum coefficient."""
    nesterov: bool = False
    """Use Nesterov momentum; needs a momentum above 0."""
    weight_decay: NonNegative = 0.0
    """L2 penalty coefficient: this times the weights is added to the gradient."""

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class _Adam(_Optimizer):
    beta1: Fraction = 0.9
    """Decay rate of the running mean of the gradients."""
    beta2: Fraction = 0.999
    """Decay rate of the running mean of the squared gradients."""
    eps: Positive = 1e-8
    """Term added to the denominator for numerical stability."""


class Adam(_Adam):
    """Adam (Kingma & Ba, 2015)."""

    name: Literal["adam"]
    weight_decay: NonNegative = 0.0
    """L2 penalty coefficient: this times the weights is added to the gradient, as in torch.optim.Adam."""


class AdamW(_Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    name: Literal["adamw"]
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay: each step subtracts lr times this times the weights."""


class RmsProp(_Optimizer):
    """RMSprop (Tieleman & Hinton, 2012)."""

    name: Literal["rmsprop"]
    alpha: Fraction = 0.99
    """Decay rate of the running mean of the squared gradients."""
    eps: Positive = 1e-8
    """Term added to the denominator for numerical stability."""
    momentum: Fraction = 0.0
    """Momentum coefficient."""
    weight_decay: NonNegative = 0.0
    """L2 penalty coefficient: this times the weights is added to the gradient."""


Optimizer = Annotated[Sgd | Adam | AdamW | RmsProp, Discriminator("name")]
