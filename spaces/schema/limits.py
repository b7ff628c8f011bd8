"""Hard limits of a search: what a network must not exceed to be trained or to win."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from winnow.spaces.schema.fields import Positive, Strict

LIMITED: dict[str, str] = {
    "parameters": "num_parameters",
    "multiply_adds": "multiply_adds",
    "latency_ms": "latency_ms",
    "epoch_seconds": "epoch_seconds",
}
"""Key of a limit -> the figure of a trial that it limits. The first two are known before a training, the others are measured."""


class Limits(Strict):
    """Upper limits of a network; a config beyond one of them is infeasible: it never wins, and is not trained if that is known before."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    parameters: Positive | None = None
    """Largest number of parameters (weights and biases)."""
    multiply_adds: Positive | None = None
    """Largest number of multiply-adds for one image."""
    latency_ms: Positive | None = None
    """Largest latency of a batch of one image, in milliseconds: the median, measured on the device of the trial before its training."""
    epoch_seconds: Positive | None = None
    """Longest epoch, in seconds: the shortest of a trial's first two epochs counts, since the first one also loads libraries."""

    def exceeded(self, figures: Mapping[str, Any]) -> str | None:
        """Name the limit that a network exceeds.

        Args:
            figures: Figures of a trial, by the names in `LIMITED`. A figure that is missing or None is not judged.

        Returns:
            The first limit that is exceeded, in words; None if there is none.
        """
        for key, figure in LIMITED.items():
            limit, value = getattr(self, key), figures.get(figure)
            if limit is not None and value is not None and value > limit:
                return f"{key}: {value:,.6g} is above the limit of {limit:,.6g}"
        return None

    @property
    def by_figure(self) -> dict[str, float]:
        """The limits that are set, by the names of the figures that they limit."""
        limits = {figure: getattr(self, key) for key, figure in LIMITED.items()}
        return {figure: limit for figure, limit in limits.items() if limit is not None}

    def __str__(self) -> str:
        return ", ".join(f"{key} <= {value:,.6g}" for key, value in self if value is not None)
