"""Defines the config of one training, with every key that a recipe may contain.

A space that leaves no value open is a `Config`. The module does not import torch: the names here are the keys of the registries in
`models/` and `search/training/`, and a test checks that they are equal. All durations are in epochs, and all rates are fractions.
Unknown keys are rejected.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from winnow.spaces.epoch_figures import OWN_METRIC, weights_rules
from winnow.spaces.schema.averaging import Averaging
from winnow.spaces.schema.data import Data
from winnow.spaces.schema.fields import (
    Count,
    Metric,
    NonNegative,
    Positive,
    Strict,
    WeightsRule,
    bare_name,
)
from winnow.spaces.schema.loss import CrossEntropy, Loss
from winnow.spaces.schema.mixing import Mixing
from winnow.spaces.schema.model import Model
from winnow.spaces.schema.optimizer import Optimizer
from winnow.spaces.schema.own import OwnInitialization, OwnLoop, OwnMetric, OwnOptimizer
from winnow.spaces.schema.schedule import Constant, Plateau, Schedule


class EarlyStopping(Strict):
    """Early stopping on a validation metric. Retraining has no validation split: it trains for as many epochs as the trial did in the search."""

    patience: Count
    """Number of epochs without an improvement of the metric after which the training ends."""
    metric: Metric = "validation_loss"
    """Metric to monitor."""
    min_delta: NonNegative = 0.0
    """Minimum change of the metric that counts as an improvement, in the unit of the metric."""


PARTS_OF_THE_LOOP = (
    "initialization",
    "optimizer",
    "schedule",
    "loss",
    "mix",
    "averaging",
    "gradient_clip",
    "precision",
    "cuda_graphs",
)
"""Keys that only Winnow's training loop reads, not a custom one."""


class Config(Strict):
    """The complete config of one training."""

    data: Annotated[Data, BeforeValidator(bare_name)]
    """The data set and how its images are prepared; a bare name is short for `{name: NAME}`."""
    epochs: Count
    """Number of passes over the training images."""
    stop_after: Annotated[Count | None, Field(exclude_if=lambda value: value is None)] = None
    """Epoch after which the training ends, while schedules still span `epochs`. Retraining sets it to the epoch that the search chose. null: train all epochs."""
    batch_size: Count
    """Number of training images per optimizer step, over all GPUs of a trial."""
    model: Model
    """The network architecture."""
    initialization: Annotated[OwnInitialization, BeforeValidator(bare_name)] | None = None
    """Custom weight initialization, applied to the new network; a bare import path is short for `{name: PATH}`. null: the initialization of the model."""
    train: Annotated[OwnLoop, BeforeValidator(bare_name)] | None = None
    """Custom training loop; a bare import path is short for `{name: PATH}`. null: Winnow's training loop."""
    optimizer: Annotated[Optimizer | None, Field(validate_default=True)] = None
    """The optimizer and its settings. Required unless `train` names a custom loop."""
    schedule: Annotated[Schedule, BeforeValidator(bare_name)] = Constant()
    """Learning-rate schedule; a bare name is short for `{name: NAME}`."""
    loss: Annotated[Loss, BeforeValidator(bare_name)] = CrossEntropy()
    """Training loss; a bare name is short for `{name: NAME}`."""
    mix: Annotated[Mixing, BeforeValidator(bare_name)] | None = None
    """Mixing of training images within a batch; a bare name is short for `{name: NAME}`. null: no mixing."""
    averaging: Annotated[Averaging, BeforeValidator(bare_name)] | None = None
    """Weight averaging over the optimizer steps. The averaged weights are validated, tested and kept. A bare name is short for `{name: NAME}`. null: no averaging."""
    gradient_clip: Positive | None = None
    """Maximum global L2 norm of the gradient; larger gradients are scaled down. null: no clipping."""
    early_stopping: EarlyStopping | None = None
    """Early stopping; null: train all epochs."""
    weights: WeightsRule = "last"
    """Epoch whose weights are kept and evaluated. Retraining has no validation split: it trains for as many epochs as the weights kept in the search had."""
    test_flip: bool = False
    """Test-time augmentation: the final test and predictions average the logits of each image and its mirror image. A space gives it one value, which also applies to `start_from` and `baseline`, since validation images do not tell which is better."""
    test_shift: Annotated[int, Field(ge=0, le=16)] = 0
    """Test-time augmentation: number of pixels by which each image is also shifted, up-left and down-right, in the final test and predictions. Half of the weight stays with the image that is not shifted. Below the height and width of the images. A space gives it one value, like `test_flip`. 0: no shift."""
    own_metric: Annotated[OwnMetric, BeforeValidator(bare_name)] | None = None
    """Custom metric; a bare import path is short for `{name: PATH}`. It is computed on the validation images after every epoch, and on the test images. Elsewhere, such as in `search.objective`, it is called `validation_own_metric`."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Numeric precision. `auto`: bfloat16 autocast if the device supports it in hardware (on a CPU: AVX512-BF16 or AMX, and no grouped convolutions), float16 autocast on older GPUs with tensor cores (V100, T4), else float32. In float16 the loss is scaled, and a step whose gradients overflow is skipped. In training and validation, GPUs with TensorFloat-32 use it for float32 matrix products and convolutions. The final test uses full float32."""
    cuda_graphs: bool = False
    """Whether a CUDA GPU replays the forward and backward pass as CUDA graphs if a measurement of the first steps finds that faster, as it may for small networks. The figures are the same. No effect on other devices, on custom models (which may decide something in Python), if several GPUs train one config, or if batches are trained in pieces. Not measured on a GPU yet."""

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer_unless_own_loop(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None and info.data.get("train", "refused") is None:
            raise PydanticKnownError("missing")
        return value

    @model_validator(mode="after")
    def _only_what_the_loop_reads(self) -> Config:
        fields = type(self).model_fields
        idle = [key for key in PARTS_OF_THE_LOOP if self.train and getattr(self, key) != fields[key].default]
        if idle:
            raise ValueError(
                f"`train` names a custom loop, in which these keys have no effect: {', '.join(idle)}; leave them out, and give "
                "the loop what it needs as keys of `train`"
            )
        return self

    @model_validator(mode="after")
    def _momentum_to_cycle(self) -> Config:
        lowest, optimizer = getattr(self.schedule, "lowest_momentum", None), self.optimizer
        if lowest is None or optimizer is None or isinstance(optimizer, OwnOptimizer):  # a custom one is tried
            return self
        momentum = getattr(optimizer, "momentum", getattr(optimizer, "beta1", None))
        if momentum is None:
            raise ValueError(
                f"schedule.lowest_momentum needs an optimizer with a momentum, but {optimizer.name} has none"
            )
        if momentum > 0 and getattr(optimizer, "decoupled", False):
            raise ValueError(
                "schedule.lowest_momentum cannot be combined with optimizer.decoupled, which corrects momentum and learning rate for "
                "the batch size"
            )
        if lowest > momentum:
            raise ValueError(
                f"schedule.lowest_momentum must not be above the momentum of the optimizer, {momentum:g}, but got {lowest:g}"
            )
        return self

    @model_validator(mode="after")
    def _own_metric_where_needed(self) -> Config:
        for key, metric in self.watched.items():
            if metric == OWN_METRIC and self.own_metric is None:
                raise ValueError(f"{key} needs `own_metric`, the import path of the function")
        return self

    @property
    def last_epoch(self) -> int:
        """The epoch after which the training ends, unless early stopping or divergence ends it."""
        return self.stop_after or self.epochs

    @property
    def watched(self) -> dict[str, str]:
        """The metrics by which a training decides, by the key that names each."""
        metrics = {
            "early_stopping.metric": self.early_stopping and self.early_stopping.metric,
            "schedule.metric": self.schedule.metric if isinstance(self.schedule, Plateau) else None,
            "weights": weights_rules().get(self.weights),
        }
        return {key: metric for key, metric in metrics.items() if metric}
