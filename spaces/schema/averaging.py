"""The averages of weights that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator

from winnow.spaces.schema.fields import Count, Fraction, Strict


class _Averaging(Strict):
    every: Count = 5
    """Optimizer steps between two updates."""


class Ema(_Averaging):
    """Exponential moving average of the weights, which the training itself does not see (Polyak & Juditsky, 1992)."""

    name: Literal["ema"] = "ema"
    decay: Fraction = 0.99
    """Share of the old average that an update keeps; in update t at most (1 + t) / (10 + t), so that the first weights fade."""


class Lookahead(_Averaging):
    """Moving average to which the weights return at each update (Zhang et al., 2019), as in airbench: the share that an update keeps rises with the cube of the steps done."""

    name: Literal["lookahead"] = "lookahead"
    decay: Fraction = 0.77
    """Share of the old average that the last update keeps."""


Averaging = Annotated[Ema | Lookahead, Discriminator("name")]
