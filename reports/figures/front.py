"""Draws the front of a search with several objectives: the metric against each cost, with the results of retraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from winnow.reports.figures.style import (
    GREEN,
    ORANGE,
    Figure,
    add_trials,
    base_layout,
    hover_format,
    number_axis,
    value_axis,
)
from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class FrontInfo:
    """The completed trials by one cost and the objective, and which of them are on the front."""

    cost: list[float]
    objective: list[float]
    trials: list[int]
    front: list[int]
    """Positions in the lists of the trials on the front, cheapest first."""
    tested: list[tuple[float, float, int]]
    """(cost, test accuracy, trial) of the retrained trials of the front."""


def fronts(run: RunData) -> list[Figure]:
    """Draw the objective against each cost; no figures if the search has one objective or no completed trial."""
    figures = []
    for cost in run.costs:
        info = front_info(run, cost)
        if info.front:
            title = f"{wording.objective_name(run).capitalize()} against {wording.COST_WORDS[cost]}"
            caption = "Dots are completed trials, the line joins those of the front. Diamonds are test accuracies after retraining."
            figures.append(Figure(f"front-{cost}", title, caption, _draw(run, info, cost)))
    return figures


def front_info(run: RunData, cost: str) -> FrontInfo:
    """Compute the content of a figure of the front. A config that ran several times is on the front with its means, at its first trial.

    Args:
        run: The run.
        cost: The column of `trials` on the horizontal axis.
    """
    means = {row["trial"]: {key: row[key] for key in ("objective", cost)} for row in run.rows("front")}
    completed = [
        row | means.get(row["trial"], {})
        for row in run.rows("trials")
        if row["status"] == TrialStatus.COMPLETED and row["in_space"] and row["objective"] is not None and row[cost]
    ]
    place = {row["trial"]: position for position, row in enumerate(completed)}
    members = sorted((row for row in run.rows("front") if row["trial"] in place), key=lambda row: row[cost])
    return FrontInfo(
        cost=[float(row[cost]) for row in completed],
        objective=[row["objective"] for row in completed],
        trials=[row["trial"] for row in completed],
        front=[place[row["trial"]] for row in members],
        tested=[(row[cost], row["test_accuracy"], row["trial"]) for row in members if row["test_accuracy"] is not None],
    )


def _draw(run: RunData, info: FrontInfo, cost: str) -> go.Figure:
    name = wording.objective_name(run)
    figure = go.Figure(layout=base_layout(wording.COST_WORDS[cost], name, height=340))
    x, y = ([values[i] for i in info.front] for values in (info.cost, info.objective))
    line = {"color": GREEN, "width": 2, "shape": "hv" if len(run.costs) == 1 else "linear"}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name="front", hoverinfo="skip")
    hover = f"trial %{{customdata}}: %{{y{hover_format(run.objective)}}} at %{{x:.3s}}<extra></extra>"
    add_trials(figure, info.cost, info.objective, info.trials, ["completed"] * len(info.cost), hovertemplate=hover)
    if info.tested and run.objective.endswith("accuracy"):
        costs, accuracies, trials = zip(*info.tested, strict=True)
        marker = {"color": ORANGE, "symbol": "diamond-open", "size": 11}
        about = "trial %{customdata} retrained: %{y:.2%} on test images<extra></extra>"
        more = {"customdata": trials, "mode": "markers", "marker": marker, "hovertemplate": about}
        figure.add_scatter(x=costs, y=accuracies, name="retrained, test images", **more)
    figure.update_xaxes(number_axis(info.cost, is_log=True), type="log")
    figure.update_yaxes(value_axis(run.objective))
    return figure
