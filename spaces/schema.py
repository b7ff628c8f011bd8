"""The typed schema of one fully fixed training: every key a recipe may state, its range and its default.

A `Config` is what a space becomes when nothing is left open. It knows no torch: names here are the keys of the
registries in `models/` and `search/training/`, and a test holds the two equal. All durations are epochs, all rates are
fractions. Unknown keys are refused. The `data` and `model` sections have files of their own; this one joins them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, model_validator

from spaces.data_schema import (
    AUGMENTATION_PRESETS,
    Augmentation,
    Augmentations,
    Brightness,
    Crop,
    Cutout,
    Data,
    ExtraCopies,
    Flip,
    Normalization,
    ResizeCrop,
    Zoom,
)
from spaces.fields import Count, Fraction, NonNegative, Positive, Strict, bare_name
from spaces.model_schema import (
    Activation,
    Cnn,
    Custom,
    Initialization,
    Mixture,
    MixtureBlock,
    Mlp,
    Model,
    Norm,
    Pool,
    Residual,
    ResidualStage,
    Stage,
    TrainedBackbone,
    Transfer,
    Widths,
)

__all__ = [
    "AUGMENTATION_PRESETS",
    "Activation",
    "Adam",
    "AdamW",
    "Augmentation",
    "Augmentations",
    "Brightness",
    "Cnn",
    "Config",
    "Constant",
    "Cosine",
    "Crop",
    "CrossEntropy",
    "Custom",
    "Cutout",
    "Data",
    "EarlyStopping",
    "Exponential",
    "ExtraCopies",
    "Flip",
    "Initialization",
    "Loss",
    "Margin",
    "Mixture",
    "MixtureBlock",
    "Mlp",
    "Model",
    "MultiStep",
    "Norm",
    "Normalization",
    "OneCycle",
    "Optimizer",
    "Plateau",
    "Pool",
    "Reference",
    "Residual",
    "ResidualStage",
    "ResizeCrop",
    "RetrainSettings",
    "RmsProp",
    "Schedule",
    "SearchSettings",
    "Sgd",
    "Stage",
    "StepDecay",
    "TrainedBackbone",
    "Transfer",
    "Widths",
    "Zoom",
]


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


class CrossEntropy(Strict):
    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    """Share of the target that is spread evenly over all classes."""


class Margin(Strict):
    """Multi-class margin loss: mean over classes of max(0, margin - x[true] + x[i]) ** p."""

    name: Literal["margin"]
    p: Literal[1, 2] = 1
    margin: Positive = 1.0


Loss = Annotated[CrossEntropy | Margin, Discriminator("name")]


# --- the whole ------------------------------------------------------------------------------------------------------


class EarlyStopping(Strict):
    """End the training when the validation loss has not improved for `patience` epochs."""

    patience: Count


class Config(Strict):
    """Everything about one training."""

    data: Annotated[Data, BeforeValidator(bare_name)]
    """Which images; a bare name stands for `{name: NAME}`."""
    epochs: Count
    """Passes over the training images."""
    batch_size: Count
    """Training images per step."""
    model: Model
    """The network."""
    optimizer: Optimizer
    """How the weights are changed."""
    schedule: Annotated[Schedule, BeforeValidator(bare_name)] = Constant()
    """How the learning rate goes over the training; a bare name stands for `{name: NAME}`."""
    loss: Annotated[Loss, BeforeValidator(bare_name)] = CrossEntropy()
    """What is minimised; a bare name stands for `{name: NAME}`."""
    gradient_clip: Positive | None = None
    """Largest global L2 norm of the gradient."""
    early_stopping: EarlyStopping | None = None
    """End a training that no longer improves; null: train all epochs."""
    weights: Literal["last", "lowest_validation_loss", "highest_validation_accuracy"] = "last"
    """The epoch whose weights are kept and tested."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 where the device computes it in hardware (a CPU: AVX512-BF16 or AMX, and no grouped convolutions), else float32."""


class SearchSettings(Strict):
    """The optional `search:` section of a space; every key is also an option of `winnow search`."""

    trials: Count = 50
    """How many trials run."""
    objective: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    """What trials are judged by, on the validation images."""
    sampler: Literal["forecast", "tpe", "gp", "random", "qmc", "grid"] = "forecast"
    """What suggests the configs."""
    grace_epochs: Count | None = None
    """First rung; null: a sixteenth of the epochs, at least 1."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    """One in so many goes on at a rung, and the next rung is so many times further."""
    repeats: Count = 1
    """How often one config may run, each time with another seed."""
    checkpoint_quota: Annotated[float, Field(gt=0.0)] = 20.0
    """GB that the checkpoints of paused trials may take (`forecast` pauses trials); beyond it the worst of them are stopped."""
    audit: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the stopped trials that is let finish, to see how often a stop was wrong."""
    strata: Count = 1
    """Compare a trial at a rung only with those of similar cost, in so many groups; 1: with all."""


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space."""

    top: Count = 3
    """How many of the best configs are retrained."""
    seeds: Count = 3
    """With how many fresh seeds each."""


class Reference(Strict):
    """The optional `reference:` section of a recipe: the published experiment that it states."""

    row: str
    """Its name in the published table."""
    accuracy: Annotated[float, Field(ge=0.0, le=100.0)]
    """As published, in percent."""
    split: Literal["test", "validation"] = "test"
    """The images that it was measured on."""
    parameters: Count | None = None
    """Of the network, by a calculation on paper."""
    note: str = ""
    """What the report leaves open."""
