"""Hard limits of a search, which a network must not exceed."""

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
"""The figure of a trial that each limit restricts, by the key of the limit. The first two are known before training, the others are
measured."""


class Limits(Strict):
    """Upper limits of a network. A config that exceeds one is infeasible: it cannot win, and it is not trained if the excess is known beforehand."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    parameters: Positive | None = None
    """Largest number of parameters (weights and biases)."""
    multiply_adds: Positive | None = None
    """Largest number of multiply-adds of a forward pass for one image."""
    latency_ms: Positive | None = None
    """Largest latency of a batch of one image, in milliseconds: the median, measured on the trial's device before training, beside the other trials that run then. If it is above the limit and at most twice as long, it is measured up to three more times, and the least counts."""
    epoch_seconds: Positive | None = None
    """Longest epoch, in seconds. The shorter of a trial's first two epochs counts, since the first also loads libraries."""

    def exceeded(self, figures: Mapping[str, Any]) -> str | None:
        """Describe the first limit that a network exceeds.

        Args:
            figures: Figures of a trial, by the names in `LIMITED`. A figure that is missing or None is not judged.

        Returns:
            The limit in words; None if no limit is exceeded.
        """
        key = self.first_exceeded(figures)
        if key is None:
            return None
        return f"{key}: {figures[LIMITED[key]]:,.6g} is above the limit of {getattr(self, key):,.6g}"

    def first_exceeded(self, figures: Mapping[str, Any]) -> str | None:
        """Return the key of the first limit that a network exceeds; None if it exceeds none.

        Args:
            figures: Figures of a trial, by the names in `LIMITED`. A figure that is missing or None is not judged.
        """
        for key, figure in LIMITED.items():
            limit, value = getattr(self, key), figures.get(figure)
            if limit is not None and value is not None and value > limit:
                return key
        return None

    @property
    def by_figure(self) -> dict[str, float]:
        """The limits that are set, by the names of the figures that they limit."""
        limits = {figure: getattr(self, key) for key, figure in LIMITED.items()}
        return {figure: limit for figure, limit in limits.items() if limit is not None}

    def __str__(self) -> str:
        return ", ".join(f"{key} <= {value:,.6g}" for key, value in self if value is not None)
