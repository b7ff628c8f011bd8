"""Defines layer names that several model families share, and the base class of the families that list their layers."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from winnow.spaces.schema.fields import Count, Strict

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu", "tanh"]
Initialization = Literal[
    "default",
    "kaiming_normal",
    "kaiming_uniform",
    "xavier_normal",
    "xavier_uniform",
    "orthogonal",
    "dirac",
    "normal",
]
Norm = Literal["none", "batch", "group", "layer"]
Pool = Literal["max", "avg", "none"]
Features = Literal["flatten", "avg", "max"]
Widths = list[Count]


class Layered(Strict):
    """Base class of the families whose `depth` is the length of a list, named by `_layers`.

    A missing `depth` is filled in, so that two spellings of one network give the same config.
    """

    _layers: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _depth_stated(cls, values: Any) -> Any:
        layers = values.get(cls._layers) if isinstance(values, dict) else None
        if isinstance(layers, list) and values.get("depth") is None:
            return {**values, "depth": len(layers)}
        return values

    @model_validator(mode="after")
    def _depth_agrees(self: Any) -> Any:
        num_layers = len(getattr(self, self._layers))
        if self.depth != num_layers:
            raise ValueError(f"depth is {self.depth}, but `{self._layers}` lists {num_layers}")
        return self
