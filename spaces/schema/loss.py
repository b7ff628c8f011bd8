"""The loss functions that a config may name, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, TypeAdapter

from winnow.spaces.errors import InputError
from winnow.spaces.schema.fields import Fraction, NonNegative, Positive, Strict
from winnow.spaces.schema.own import OwnLoss, kind_of

ClassWeights = Literal["none", "balanced"] | Annotated[list[NonNegative], Field(min_length=2)]


class _Loss(Strict):
    class_weights: ClassWeights = "none"
    """Weight of each class in the training loss. `balanced`: training images / (classes * training images of the class), so that all classes have the same total weight. A list: one weight per class, in the order of the classes. Validation and test losses are not weighted."""


class CrossEntropy(_Loss):
    """Cross-entropy of the softmax of the logits."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    """Label smoothing: probability mass of the target that is spread evenly over all classes. Validation and test losses are computed without it."""


class Focal(_Loss):
    """Focal loss: cross-entropy times (1 - p) ** gamma, where p is the probability of the true class (Lin et al., 2017).

    Validation and test losses are the cross-entropy.
    """

    name: Literal["focal"]
    gamma: NonNegative = 2.0
    """Focusing exponent: higher values give less weight to images that are already classified well. 0: cross-entropy."""


class Margin(_Loss):
    """Multi-class margin loss: the mean over classes of max(0, margin - x[true] + x[i]) ** p."""

    name: Literal["margin"]
    p: Literal[1, 2] = 1
    """Exponent: 1 for the hinge, 2 for the squared hinge."""
    margin: Positive = 1.0
    """Required difference between the logit of the true class and every other."""


BuiltInLoss = CrossEntropy | Focal | Margin
Loss = Annotated[
    Annotated[BuiltInLoss, Discriminator("name"), Tag("built_in")] | Annotated[OwnLoss, Tag("own")],
    Discriminator(kind_of),
]


def measured_loss(loss: Loss) -> Loss:
    """Return the loss that is reported on validation and test images for networks trained with a loss.

    It has neither label smoothing nor class weights, so that its values can be compared between configs that differ in these.
    """
    if isinstance(loss, OwnLoss):
        return loss
    if isinstance(loss, Margin):
        return Margin(name="margin", p=loss.p, margin=loss.margin)
    return CrossEntropy()


def measured_loss_of(config: Mapping[str, Any]) -> Loss:
    """Return the measured loss of networks trained with a config, see `measured_loss`.

    Args:
        config: A complete config as plain values. Its key `loss` may be missing, which means cross-entropy.
    """
    settings = config.get("loss") or {"name": "cross_entropy"}
    return measured_loss(TypeAdapter[Loss](Loss).validate_python(settings))


def check_class_weights(weights: str | list[float], num_classes: int) -> None:
    """Check that a list of class weights fits the classes of a data set.

    Args:
        weights: A value of `loss.class_weights`.
        num_classes: K, the number of classes.

    Raises:
        InputError: The number of weights is not the number of classes, or all weights are 0.
    """
    if isinstance(weights, list) and len(weights) != num_classes:
        raise InputError(
            f"loss.class_weights: needs one weight for each of the {num_classes} classes, but got {len(weights)}: {weights}"
        )
    if isinstance(weights, list) and not any(weights):
        raise InputError("loss.class_weights: all weights are 0, so nothing would be learned")
