"""The config of one training: every key that a recipe may state.

A space in which nothing is left open is a `Config`. The module does not import torch: the names here are the keys of the
registries in `models/` and `search/training/`, and a test keeps the two equal. All durations are in epochs, all rates are
fractions. Unknown keys are refused.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from winnow.spaces.schema.averaging import Averaging
from winnow.spaces.schema.data import Data
from winnow.spaces.schema.fields import Count, Positive, Strict, added, bare_name
from winnow.spaces.schema.loss import CrossEntropy, Loss
from winnow.spaces.schema.mixing import Mixing
from winnow.spaces.schema.model import Model
from winnow.spaces.schema.optimizer import Optimizer
from winnow.spaces.schema.own import OwnInitialization
from winnow.spaces.schema.schedule import Constant, Schedule


class EarlyStopping(Strict):
    """Early stopping on the validation loss. Retraining has no validation split: it trains as many epochs as the search did."""

    patience: Count
    """Epochs without a new lowest validation loss after which the training ends."""
    min_delta: Annotated[float, Field(ge=0.0, exclude_if=lambda value: value == 0.0)] = 0.0
    """How much lower than the lowest one a validation loss must be to count as new."""


class Config(Strict):
    """The complete config of one training."""

    data: Annotated[Data, BeforeValidator(bare_name)]
    """The data set; a bare name is short for `{name: NAME}`."""
    epochs: Count
    """Number of passes over the training images."""
    stop_after: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Epoch after which the training ends, while schedules still span `epochs`. Retraining sets it to the epoch that the search chose. null: train all epochs."""
    batch_size: Count
    """Training images per optimizer step, over all GPUs of a trial."""
    model: Model
    """The network architecture."""
    initialization: Annotated[OwnInitialization, BeforeValidator(bare_name)] | None = added(None)
    """Own initialization, applied to the new network; a bare import path is short for `{name: PATH}`. null: that of the model."""
    optimizer: Optimizer
    """The optimizer and its settings."""
    schedule: Annotated[Schedule, BeforeValidator(bare_name)] = Constant()
    """Learning-rate schedule; a bare name is short for `{name: NAME}`."""
    loss: Annotated[Loss, BeforeValidator(bare_name)] = CrossEntropy()
    """Training loss; a bare name is short for `{name: NAME}`."""
    mix: Annotated[Mixing, BeforeValidator(bare_name)] | None = added(None)
    """Mixing of the training images within a batch; a bare name is short for `{name: NAME}`. null: none."""
    averaging: Annotated[Averaging, BeforeValidator(bare_name)] | None = added(None)
    """Average of the weights over the steps, which is then validated, tested and kept; a bare name is short for `{name: NAME}`. null: the weights themselves."""
    gradient_clip: Positive | None = None
    """Maximum global L2 norm of the gradient; larger gradients are scaled down. null: no clipping."""
    early_stopping: EarlyStopping | None = None
    """Early stopping; null: train all epochs."""
    weights: Literal["last", "lowest_validation_loss", "highest_validation_accuracy"] = "last"
    """The epoch whose weights are kept and evaluated. Retraining has no validation split: it ends after as many epochs as the kept weights had in the search."""
    test_flip: bool = added(False)
    """In the final test and in predictions, average the logits of each image and of its mirror image."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numeric precision. `auto`: bfloat16 autocast if the device supports it in hardware (on a CPU: AVX512-BF16 or AMX, and no grouped convolutions), else float32. GPUs that have TensorFloat-32 use it for the products of float32 numbers in training and validation. The final test is computed in float32 without it."""
