"""The loss functions that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator

from winnow.spaces.schema.fields import Fraction, Positive, Strict


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
