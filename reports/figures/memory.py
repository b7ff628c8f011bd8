"""Draws the weight of each earlier run in the course of a search that learned from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from winnow.reports.figures.style import Figure, base_layout

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def weights(run: RunData) -> list[Figure]:
    """Draw the weights against the number of the trial; no figure if the search learned from no earlier run."""
    lines = weight_lines(run)
    if not lines:
        return []
    figure = go.Figure(layout=base_layout("trial", "weight", height=300))
    for name, (trials, values) in lines.items():
        hover = f"{name}: %{{y:.2f}} at trial %{{x}}<extra></extra>"
        figure.add_scatter(x=trials, y=values, mode="lines+markers", name=name, hovertemplate=hover)
    figure.update_yaxes(range=[0, 1.02])
    caption = "The remainder up to 1 is the weight of the search's own results."
    return [Figure("memory-weights", "Weight of each earlier run", caption, figure)]


def weight_lines(run: RunData) -> dict[str, tuple[list[int], list[float]]]:
    """Return the numbers of the trials and the weights at the time of their suggestion, by earlier run."""
    lines: dict[str, tuple[list[int], list[float]]] = {}
    for row in run.rows("memory"):
        trials, values = lines.setdefault(row["earlier_run"], ([], []))
        trials.append(row["trial"])
        values.append(row["weight"])
    return lines
