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
    momentum: Fraction = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Sgd:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class Adam(Strict):
    name: Literal["adam"]
    lr: Positive
    beta1: Fraction = 0.9
    beta2: Fraction = 0.999
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    """Added to the gradient (L2), as in torch.optim.Adam; decoupled in `adamw`."""


class AdamW(Adam):
    name: Literal["adamw"]  # type: ignore[assignment]
    weight_decay: NonNegative = 0.01


class RmsProp(Strict):
    name: Literal["rmsprop"]
    lr: Positive
    alpha: Fraction = 0.99
    eps: Positive = 1e-8
    momentum: Fraction = 0.0
    weight_decay: NonNegative = 0.0


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
    epochs: Count
    batch_size: Count
    model: Model
    optimizer: Optimizer
    schedule: Annotated[Schedule, BeforeValidator(bare_name)] = Constant()
    loss: Annotated[Loss, BeforeValidator(bare_name)] = CrossEntropy()
    gradient_clip: Positive | None = None
    """Largest global L2 norm of the gradient."""
    early_stopping: EarlyStopping | None = None
    weights: Literal["last", "lowest_validation_loss", "highest_validation_accuracy"] = "last"
    """The epoch whose weights are kept and tested."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"


class SearchSettings(Strict):
    """The optional `search:` section of a space; every key is also an option of `winnow search`."""

    trials: Count = 50
    objective: Literal["validation_accuracy", "validation_loss"] = "validation_accuracy"
    sampler: Literal["forecast", "tpe", "gp", "random", "qmc"] = "tpe"
    grace_epochs: Count | None = None
    """First rung; None: a sixteenth of the epochs, at least 1."""
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0


class RetrainSettings(Strict):
    """The optional `retrain:` section of a space."""

    top: Count = 3
    seeds: Count = 3


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
