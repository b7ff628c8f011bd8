"""Number types and the strict base class of the schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
IMPORT_PATH = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
"""Pattern of an import path, `package.module:function`. ASCII only: Python and pydantic disagree about which other characters are in `\\w`."""
ImportPath = Annotated[str, Field(pattern=IMPORT_PATH)]
Metric = Literal[
    "validation_accuracy",
    "validation_loss",
    "validation_balanced_accuracy",
    "validation_macro_f1",
    "validation_top5_accuracy",
    "validation_auroc",
    "validation_calibration_error",
    "validation_own_metric",
]
WeightsRule = Literal[
    "last",
    "lowest_validation_loss",
    "highest_validation_accuracy",
    "highest_validation_balanced_accuracy",
    "highest_validation_macro_f1",
    "highest_validation_top5_accuracy",
    "highest_validation_auroc",
    "lowest_validation_calibration_error",
    "highest_validation_own_metric",
]


class Strict(BaseModel):
    """Base class of the schema: frozen, rejects unknown keys, and does not convert strings to numbers. An int may be used as a float."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def bare_name(value: Any) -> Any:
    """Expand a bare name: `loss: margin` is short for `loss: {name: margin}`."""
    return {"name": value} if isinstance(value, str) else value
