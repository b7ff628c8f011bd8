"""Number types and the strict base class that all of the schema is made of."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Strict(BaseModel):
    """Frozen, refuses unknown keys, and does not turn strings into numbers (an int where a float may stand is fine)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def bare_name(value: Any) -> Any:
    """`loss: margin` is short for `loss: {name: margin}`."""
    return {"name": value} if isinstance(value, str) else value
