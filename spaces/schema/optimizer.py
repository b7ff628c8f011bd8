"""The optimizers that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from winnow.spaces.schema.fields import Fraction, NonNegative, Positive, Strict
from winnow.spaces.schema.own import OwnOptimizer, kind_of


class _Optimizer(Strict):
    name: str
    lr: Positive
    """Peak learning rate; scaled by the schedule."""
    norm_bias_lr_factor: Positive = 1.0
    """Learning rate of the biases of norm layers, as a multiple of `lr`."""
    head_lr_factor: Positive = 1.0
    """Learning rate of the last linear layer, as a multiple of `lr`."""
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Layer-wise learning-rate decay (Clark et al., 2020): the learning rate of each layer with weights, as a multiple of that of the next layer. The last layer has `lr`. A block, such as a residual or a transformer block, counts as one layer."""
    decay_biases: bool = True
    """Also apply weight decay to norms and biases, and to whatever else is not the weight of a linear or convolution layer, such as the positions of a transformer."""


class Sgd(_Optimizer):
    """Stochastic gradient descent."""

    name: Literal["sgd"]
    momentum: Fraction = 0.0
    """Momentum coefficient."""
    nesterov: bool = False
    """Use Nesterov momentum; needs a momentum above 0."""
    weight_decay: NonNegative = 0.0
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""
    decoupled: bool = False
    """Interpret `lr`, `momentum` and `weight_decay` per 1,024 images, independently of each other and of the batch size. torch then receives the momentum m = momentum ** (batch_size / 1024), the learning rate lr * (batch_size / 1024) * (1 - m), and the weight decay weight_decay / lr."""

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
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights, as in torch.optim.Adam."""


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
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""


class NAdam(_Adam):
    """Adam with Nesterov momentum (Dozat, 2016)."""

    name: Literal["nadam"]
    momentum_decay: NonNegative = 0.004
    """Decay of the momentum over the steps."""
    weight_decay: NonNegative = 0.0
    """Weight decay; see `decoupled_decay`."""
    decoupled_decay: bool = False
    """Decoupled weight decay, as in AdamW: each step subtracts lr times the weight decay times the weights. false: an L2 penalty, as in Adam."""


class RAdam(_Adam):
    """Rectified Adam (Liu et al., 2020)."""

    name: Literal["radam"]
    weight_decay: NonNegative = 0.0
    """Weight decay; see `decoupled_decay`."""
    decoupled_decay: bool = False
    """Decoupled weight decay, as in AdamW: each step subtracts lr times the weight decay times the weights. false: an L2 penalty, as in Adam."""


class Adamax(_Adam):
    """Adam with the infinity norm (Kingma & Ba, 2015)."""

    name: Literal["adamax"]
    weight_decay: NonNegative = 0.0
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""


class Adagrad(_Optimizer):
    """Adagrad (Duchi et al., 2011)."""

    name: Literal["adagrad"]
    lr_decay: NonNegative = 0.0
    """Decay of the learning rate over the steps: lr / (1 + step * lr_decay)."""
    eps: Positive = 1e-10
    """Term added to the denominator for numerical stability."""
    weight_decay: NonNegative = 0.0
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""


class Adadelta(_Optimizer):
    """Adadelta (Zeiler, 2012)."""

    name: Literal["adadelta"]
    rho: Fraction = 0.9
    """Decay rate of the running means of the squared gradients and the squared steps."""
    eps: Positive = 1e-6
    """Term added to the denominator for numerical stability."""
    weight_decay: NonNegative = 0.0
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""


class Adafactor(_Optimizer):
    """Adafactor (Shazeer & Stern, 2018): second moments of matrices are factored into row and column statistics; no momentum."""

    name: Literal["adafactor"]
    beta2_decay: Annotated[float, Field(le=0.0, allow_inf_nan=False)] = -0.8
    """Exponent of the decay rate of the second moments, which is 1 - t ** beta2_decay at step t."""
    clip: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.0
    """Clipping threshold: largest root mean square of an update before it is multiplied by the learning rate."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay: each step subtracts lr times this times the weights."""


class Asgd(_Optimizer):
    """SGD with a decaying learning rate, as in torch.optim.ASGD (Polyak & Juditsky, 1992). To average the weights, use `averaging`."""

    name: Literal["asgd"]
    lambd: NonNegative = 1e-4
    """Decay term: the learning rate of step t is lr / (1 + lambd * lr * t) ** alpha, and each step shrinks the weights by lambd times that rate."""
    alpha: NonNegative = 0.75
    """Exponent of the decay of the learning rate."""
    weight_decay: NonNegative = 0.0
    """Coefficient of the L2 penalty: the gradient is increased by this times the weights."""


class Lion(_Optimizer):
    """Lion (Chen et al., 2023): each weight changes by the learning rate, in the direction of the sign of a momentum."""

    name: Literal["lion"]
    beta1: Fraction = 0.9
    """Weight of the momentum in the direction of a step; the gradient has the rest."""
    beta2: Fraction = 0.99
    """Decay rate of the momentum."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay: each step subtracts lr times this times the weights."""


class Muon(_Optimizer):
    """Muon (Jordan et al., 2024): orthogonalized momentum for convolutions and hidden linear layers, AdamW for the last linear layer and all other parameters."""

    name: Literal["muon"]
    momentum: Fraction = 0.95
    """Momentum coefficient; Nesterov momentum is used."""
    rest_lr: Positive = 0.001
    """Peak learning rate of the parameters that AdamW trains."""
    beta1: Fraction = 0.9
    """AdamW: decay rate of the running mean of the gradients."""
    beta2: Fraction = 0.999
    """AdamW: decay rate of the running mean of the squared gradients."""
    eps: Positive = 1e-8
    """AdamW: term added to the denominator for numerical stability."""
    weight_decay: NonNegative = 0.01
    """Decoupled weight decay: each step subtracts lr times this times the weights."""


BuiltInOptimizer = (
    Sgd | Adam | AdamW | NAdam | RAdam | Adamax | Adagrad | Adadelta | Adafactor | Asgd | RmsProp | Lion | Muon
)

Optimizer = Annotated[
    Annotated[BuiltInOptimizer, Discriminator("name"), Tag("built_in")] | Annotated[OwnOptimizer, Tag("own")],
    Discriminator(kind_of),
]
