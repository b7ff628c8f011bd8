"""The ways to mix training images that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from winnow.spaces.schema.fields import Positive, Strict


class _Mixing(Strict):
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Share of the batches that are mixed."""


class Mixup(_Mixing):
    """Each image becomes s * image + (1 - s) * another of its batch, and its loss likewise; s is Beta(alpha, alpha), drawn per batch (Zhang et al., 2018)."""

    name: Literal["mixup"] = "mixup"
    alpha: Positive = 0.2
    """Parameter of the distribution: the larger, the more even the mixture."""


class CutMix(_Mixing):
    """A rectangle of each image is replaced by that of another of its batch, and its loss by area; the area is 1 - s with s from Beta(alpha, alpha) (Yun et al., 2019)."""

    name: Literal["cutmix"] = "cutmix"
    alpha: Positive = 1.0
    """Parameter of the distribution: the larger, the more even the mixture."""


Mixing = Annotated[Mixup | CutMix, Discriminator("name")]
