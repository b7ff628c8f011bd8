"""Defines what a winner is, for the search, which needs enough of them, for retraining, which chooses among them, and for reports.

A winner is a completed trial with an objective. Its config lies in the current space and is not the baseline, with which winners are
compared.
"""

from __future__ import annotations

from typing import Any

from winnow.spaces.identity import identity
from winnow.spaces.space import Space


def baseline_config(space: Space) -> dict[str, Any] | None:
    """Return the complete config of the baseline; None if the space names none."""
    return space.config(space.baseline).model_dump(mode="json") if space.baseline else None


def may_win(config: dict[str, Any], baseline: dict[str, Any] | None) -> bool:
    """Return whether a trial with this config is a winner if it completes inside the space.

    Args:
        config: The complete config.
        baseline: The complete config of the baseline; None if there is none and every config may
            win.
    """
    return baseline is None or identity(config) != identity(baseline)
