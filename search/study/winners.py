"""Defines what a winner is: by this the search decides when it has enough of them, and retraining chooses.

A winner is a completed trial with an objective, whose config lies in the space as it is now and is not the baseline: the
baseline is what winners are compared with.
"""

from __future__ import annotations

from typing import Any

from winnow.spaces.identity import identity
from winnow.spaces.space import Space


def baseline_config(space: Space) -> dict[str, Any] | None:
    """The complete config of the recipe that winners are compared with, None if the space names none."""
    return space.config(space.baseline).model_dump(mode="json") if space.baseline else None


def may_win(config: dict[str, Any], baseline: dict[str, Any] | None) -> bool:
    """Whether a trial with this config, if it completes inside the space, is a winner."""
    return baseline is None or identity(config) != identity(baseline)
