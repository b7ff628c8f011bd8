"""The ways to mix training images that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from winnow.spaces.schema.fields import Positive, Strict


class _Mixing(Strict):
    p: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    """Probability that an image is mixed with another one."""


class Mixup(_Mixing):
    """Mixup (Zhang et al., 2018): each image becomes s * image + (1 - s) * another image of its batch, and its loss is mixed likewise. s is drawn from Beta(alpha, alpha) for each image; with a custom loss, which returns only a mean, for each batch."""

    name: Literal["mixup"] = "mixup"
    alpha: Positive = 0.2
    """Parameter of the beta distribution; larger values mix more evenly."""


class CutMix(_Mixing):
    """CutMix (Yun et al., 2019): a rectangle of each image is replaced by that of another image of its batch, and its loss is mixed by area. The rectangle has the area 1 - s, with s drawn from Beta(alpha, alpha) for each image, and a place of its own; with a custom loss, which returns only a mean, both are drawn for each batch."""

    name: Literal["cutmix"] = "cutmix"
    alpha: Positive = 1.0
    """Parameter of the beta distribution; larger values mix more evenly."""


Mixing = Annotated[Mixup | CutMix, Discriminator("name")]
