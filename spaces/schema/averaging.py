"""The averages of weights that a config may name, and their settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator

from winnow.spaces.schema.fields import Count, Fraction, Strict


class _Averaging(Strict):
    every: Count = 5
    """Number of optimizer steps between two updates."""


class Ema(_Averaging):
    """Exponential moving average of the weights; the training itself continues from the raw weights (Polyak & Juditsky, 1992)."""

    name: Literal["ema"] = "ema"
    decay: Fraction = 0.99
    """Decay rate: the fraction of the old average that an update keeps. Update t keeps at most (1 + t) / (10 + t), so that the average soon forgets the initial weights."""


class Lookahead(_Averaging):
    """Lookahead (Zhang et al., 2019), as in airbench: each update sets the weights to their moving average. The decay rate rises from 0 with the cube of the fraction of steps done."""

    name: Literal["lookahead"] = "lookahead"
    decay: Fraction = 0.77
    """Decay rate at the last step: the fraction of the old average that the update keeps."""


Averaging = Annotated[Ema | Lookahead, Discriminator("name")]
