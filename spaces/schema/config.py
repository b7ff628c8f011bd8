"""One fully fixed training: every key a recipe may state.

A `Config` is what a space becomes when nothing is left open. It knows no torch: names here are the keys of the
registries in `models/` and `search/training/`, and a test holds the two equal. All durations are epochs, all rates are
fractions. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from winnow.spaces.schema.data import Data
from winnow.spaces.schema.fields import Count, Positive, Strict, bare_name
from winnow.spaces.schema.loss import CrossEntropy, Loss
from winnow.spaces.schema.model import Model
from winnow.spaces.schema.optimizer import Optimizer
from winnow.spaces.schema.schedule import Constant, Schedule


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
