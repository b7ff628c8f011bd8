"""Draws the objective against costs, which are the size of the network and the time per epoch, with the Pareto front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from winnow.reports.figures.parameters import about_stopped, scored_trials
from winnow.reports.figures.style import (
    GREEN,
    Figure,
    add_trials,
    base_layout,
    focus,
    hover_format,
    number_axis,
    value_axis,
)
from winnow.reports.statuses import value_at_end
from winnow.reports.subsample import MAX_TRIALS, drawn, note
from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class _CostInfo:
    """Trials by cost and objective."""

    cost: list[float]
    objective: list[float]
    trials: list[int]
    statuses: list[str]
    front: list[int]
    """Positions in the lists of the trials on the Pareto front: completed trials that no cheaper completed trial beats; the cheapest first."""
    num_trials: int
    """Number of trials, including those not drawn."""


def cost(run: RunData) -> list[Figure]:
    """Draw the objective against the size of the network and against the time of an epoch, with the Pareto front."""
    sizes = _cost_info(run, lambda row: row["num_parameters"])
    about = about_stopped(scored_trials(run))
    times = _cost_info(run, lambda row: row["train_seconds"] / row["num_epochs"] if row["num_epochs"] else None)
    caption = f"The line joins the completed trials that no smaller completed trial beats. {about}"
    name = wording.objective_name(run).capitalize()
    figures = []
    if sizes.cost:
        plot = _draw_cost(run, sizes, "weights and biases of the network")
        figures.append(Figure("size", f"{name} against size", caption + _note(sizes), plot))
    if times.cost:
        plot = _draw_cost(run, times, "seconds per epoch")
        caption = f"The line joins the completed trials that no faster completed trial beats. {about}"
        figures.append(Figure("speed", f"{name} against time", caption + _note(times), plot))
    return figures


def _note(info: _CostInfo) -> str:
    return note(len(info.cost), info.num_trials, "the trials on the line")


def _cost_info(run: RunData, cost_of: Callable[[dict[str, Any]], float | None]) -> _CostInfo:
    priced = [(row, cost_of(row)) for row in scored_trials(run)]
    rows = [row for row, price in priced if price]
    costs = [float(price) for _, price in priced if price]
    values = [value_at_end(row) for row in rows]
    completed = [i for i, row in enumerate(rows) if row["status"] == TrialStatus.COMPLETED]
    front: list[int] = []
    for i in sorted(completed, key=lambda i: (costs[i], -values[i] if run.maximize else values[i])):
        if not front or (values[i] > values[front[-1]] if run.maximize else values[i] < values[front[-1]]):
            front.append(i)
    kept = drawn(len(rows), MAX_TRIALS, front)
    place = {i: position for position, i in enumerate(kept)}
    return _CostInfo(
        cost=[costs[i] for i in kept],
        objective=[values[i] for i in kept],
        trials=[rows[i]["trial"] for i in kept],
        statuses=[rows[i]["status"] for i in kept],
        front=[place[i] for i in front],
        num_trials=len(rows),
    )


def _draw_cost(run: RunData, info: _CostInfo, x_title: str) -> go.Figure:
    figure = go.Figure(layout=base_layout(x_title, wording.objective_name(run), height=340))
    front = {"x": [info.cost[i] for i in info.front], "y": [info.objective[i] for i in info.front]}
    if info.front:
        line = {"color": GREEN, "width": 2, "shape": "hv"}
        ring = {"color": GREEN, "size": 15, "symbol": "circle-open"}
        figure.add_scatter(**front, mode="lines+markers", line=line, marker=ring, name="Pareto front", hoverinfo="skip")
    hover = f"trial %{{customdata}}: %{{y{hover_format(run.objective)}}} at %{{x:.3s}}<extra></extra>"
    add_trials(figure, info.cost, info.objective, info.trials, info.statuses, hovertemplate=hover)
    figure.update_xaxes(number_axis(info.cost, is_log=True), type="log")
    figure.update_yaxes(value_axis(run.objective) | focus(info.objective, run.maximize))
    return figure
