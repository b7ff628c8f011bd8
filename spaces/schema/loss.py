"""The loss functions that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator

from winnow.spaces.schema.fields import Fraction, Positive, Strict


class CrossEntropy(Strict):
    """Cross-entropy of the softmax of the logits."""

    name: Literal["cross_entropy"] = "cross_entropy"
    label_smoothing: Fraction = 0.0
    """Probability mass of the target that is spread evenly over all classes."""


class Margin(Strict):
    """Multi-class margin loss: the mean over classes of max(0, margin - x[true] + x[i]) ** p."""

    name: Literal["margin"]
    p: Literal[1, 2] = 1
    """Exponent: 1 for the hinge, 2 for the squared hinge."""
    margin: Positive = 1.0
    """Lead that the true class's logit must have over every other."""


Loss = Annotated[CrossEntropy | Margin, Discriminator("name")]
