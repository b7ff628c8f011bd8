"""Creates the row of the ensemble, which averages the probabilities of all networks of the winners. The test images did not select it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.predictions import load_predictions
from winnow.reports.tables.intervals import NORMAL_975, Interval
from winnow.spaces.trial_status import TrialStatus
from winnow.spaces.views import num_views

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]


def members(lines: Sequence[Row]) -> list[Row]:
    """Return the lines of `retrain.jsonl` whose networks form the ensemble: all completed networks of all winners, without the baseline."""
    chosen = [line for line in lines if line.get("rank") is not None and line["status"] == TrialStatus.COMPLETED]
    return sorted(chosen, key=lambda line: (line["rank"], line["seed"]))


def ensemble_rows(run: RunRecords) -> list[Row]:
    """Return the row of the table `ensemble`; none if there are fewer than two networks, or predictions are missing."""
    lines = members(run.retrain_lines)
    total, true = None, None
    for line in lines:
        arrays = load_predictions(run.path, line["predictions"]) if line.get("predictions") else None
        if arrays is None or "probabilities" not in arrays:
            return []
        if true is not None and not np.array_equal(true, arrays["true"]):
            return []
        true, probabilities = arrays["true"], arrays["probabilities"].astype(np.float64)
        total = probabilities if total is None else total + probabilities
    if total is None or len(lines) < 2:
        return []
    right = total.argmax(1) == true
    accuracy = _wilson(int(right.sum()), len(right))
    return [
        {
            "run": run.name,
            "num_networks": len(lines),
            "num_winners": len({line["rank"] for line in lines}),
            "test_accuracy": accuracy.mean,
            "test_accuracy_low": accuracy.low,
            "test_accuracy_high": accuracy.high,
            "cost": _cost(lines),
        }
    ]


def _cost(lines: Sequence[Row]) -> float | None:
    costs = [(line.get("multiply_adds") or math.nan) * num_views(line["config"] or {}) for line in lines]
    cost = math.fsum(costs) / costs[0]
    return None if math.isnan(cost) else cost


def _wilson(num_right: int, num: int) -> Interval:
    share, z2 = num_right / num, NORMAL_975**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = NORMAL_975 * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2)) / (1 + z2 / num)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
