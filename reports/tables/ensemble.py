"""The ensemble of the winners: the mean of the probabilities of all their networks, which the search chose and the test did not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.predictions import load_predictions
from winnow.reports.tables.intervals import NORMAL_975, Interval

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class Ensemble:
    """The answers of the ensemble for the test images."""

    num_networks: int
    num_winners: int
    accuracy: Interval
    """Test accuracy and its 95 % interval (Wilson, 1927) over the test images: there is one ensemble, so none over seeds."""
    cost: float | None
    """Multiply-adds of an answer, as a multiple of those of the first winner's network; None if they were not recorded."""


def members(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of `retrain.jsonl` whose networks form the ensemble: all that completed of all winners, the baseline left out."""
    chosen = [line for line in lines if line.get("rank") is not None and line["status"] == "completed"]
    return sorted(chosen, key=lambda line: (line["rank"], line["seed"]))


def ensemble(run: RunData) -> Ensemble | None:
    """Return the ensemble of a run's winners; None if there are fewer than two networks, or predictions are missing."""
    return run.once("ensemble", lambda: _ensemble(run.path))


def _ensemble(path: Path) -> Ensemble | None:
    lines = members(read_lines(path / "retrain.jsonl", ("rank", "seed", "status"))[0])
    if len(lines) < 2:
        return None
    total, true = None, None
    for line in lines:
        arrays = load_predictions(path / line["predictions"]) if line.get("predictions") else None
        if arrays is None or "probabilities" not in arrays:
            return None
        if true is not None and not np.array_equal(true, arrays["true"]):
            return None
        true, probabilities = arrays["true"], arrays["probabilities"].astype(np.float64)
        total = probabilities if total is None else total + probabilities
    assert total is not None
    right = total.argmax(1) == true
    costs = [line.get("multiply_adds") or math.nan for line in lines]
    cost = math.fsum(costs) / costs[0]
    return Ensemble(
        len(lines),
        len({line["rank"] for line in lines}),
        _wilson(int(right.sum()), len(right)),
        None if math.isnan(cost) else cost,
    )


def _wilson(num_right: int, num: int) -> Interval:
    share, z2 = num_right / num, NORMAL_975**2
    centre = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = NORMAL_975 * math.sqrt(share * (1 - share) / num + z2 / (4 * num**2)) / (1 + z2 / num)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))
