"""Compares the fronts of runs with the same objectives by their hypervolume."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import measure
from winnow.reports.tables.candidates import completed_inside, objectives_of
from winnow.reports.tables.front import front_rows
from winnow.reports.text import wording
from winnow.spaces.epoch_figures import is_cost
from winnow.spaces.fronts import gain, gains, hypervolume

if TYPE_CHECKING:
    import numpy as np

    from winnow.reports.run_data import RunData

Row = dict[str, Any]
MEASURED = ("latency_ms", "epoch_seconds")
"""The costs that depend on the device."""


def dominated_shares(runs: Sequence[RunData]) -> list[float | None]:
    """Return how much of what can be reached the front of each run dominates, as a fraction.

    This is its hypervolume, divided by that of the best value of each objective. The reference point is the worst value of each
    objective. Both are taken over the completed trials of all runs, and costs are compared by their logarithm.

    Args:
        runs: The runs.

    Returns:
        One share per run; None for all if `why_not_by_fronts` gives a reason.
    """
    if why_not_by_fronts(runs):
        return [None] * len(runs)
    lowest, highest = _ends(runs)
    whole = float((highest - lowest).prod())
    fronts = [front_rows(run, _completed(run), run.winner_rows()) for run in runs]
    return [hypervolume(_points(run, rows), lowest) / whole for run, rows in zip(runs, fronts, strict=True)]


def why_not_by_fronts(runs: Sequence[RunData]) -> str:
    """Explain why the fronts of runs are not compared; empty if they are.

    Args:
        runs: The runs.
    """
    further = runs[0].further
    if any(run.further != further for run in runs):
        return "The fronts are not compared, as the runs have different objectives."
    if not further:
        return "The runs have a single objective."
    for name in further:
        if any(measure(run, name) != measure(runs[0], name) for run in runs):
            return f"The fronts are not compared, as {wording.figure_words(name)} was computed by different functions."
    measured = [wording.COST_WORDS[name] for name in further if name in MEASURED]
    devices = {row["device"] for run in runs for row in _completed(run)}
    if measured and len(devices) > 1:
        return f"The fronts are not compared, as {wording.listed(measured)} was measured on different devices."
    without = [run.name for run in runs if not _completed(run)]
    if without:
        return f"The fronts are not compared, as no trial of {wording.listed(without)} completed."
    lowest, highest = _ends(runs)
    if (lowest == highest).any():
        return "The fronts are not compared, as all completed trials are equal in one of the objectives."
    return ""


def fronts_text(runs: Sequence[RunData], shares: Sequence[float | None]) -> str:
    """Describe the result of `dominated_shares` in words.

    Args:
        runs: The runs, whose shares are known.
        shares: The share of each run.
    """
    first = runs[0]
    rows = [row for run in runs for row in _completed(run)]
    columns = zip(first.ranked_by, zip(*(objectives_of(first, row) for row in rows), strict=True), strict=True)
    worst = [(name, min(values, key=partial(gain, objective=name))) for name, values in columns]
    reference = wording.listed([wording.figure_fact(name, value) for name, value in worst])
    scale = "; costs are compared by their logarithm" if any(map(is_cost, first.further)) else ""
    of_runs = wording.listed([f"{run.name} {wording.percent(share)}" for run, share in zip(runs, shares, strict=True)])
    return (
        f"Hypervolume of the fronts: {of_runs} of the volume between the worst and the best value of each objective. The worst values, the "
        f"reference point, are {reference}, over the completed trials of all runs{scale}. It is of one search each, so it has no interval."
    )


def _completed(run: RunData) -> list[Row]:
    return [row for row in completed_inside(run.trial_rows()) if None not in objectives_of(run, row)]


def _ends(runs: Sequence[RunData]) -> tuple[np.ndarray, np.ndarray]:
    """Return the worst and the best value of each objective over the completed trials of all runs, higher is better."""
    points = _points(runs[0], [row for run in runs for row in _completed(run)])
    return points.min(axis=0), points.max(axis=0)


def _points(run: RunData, rows: list[Row]) -> np.ndarray:
    return gains([objectives_of(run, row) for row in rows], run.ranked_by)
