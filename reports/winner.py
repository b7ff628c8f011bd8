"""The config that the run ends in."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from reports.terminal import best_first

if TYPE_CHECKING:
    from reports.run import RunData


def winner_config(run: RunData) -> dict[str, Any] | None:
    """The config of the first winner; before any retrain of the best trial; None where no trial has an objective."""
    for row in run.winners.to_pylist():
        if row["rank"] == 1:
            return json.loads(row["config"])
    ranked = best_first(run, run.trials.to_pylist())
    return json.loads(ranked[0]["config"]) if ranked and ranked[0]["config"] else None
