"""Draws the front of a search with several objectives: the first one against each of the others, with the results of retraining."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from winnow.reports.tables.candidates import completed_inside
from winnow.reports.text import wording
from winnow.spaces.epoch_figures import is_cost, is_maximized, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class FrontInfo:
    """The completed trials by the first objective and another one, and which of them are on the front."""

    further: list[float]
    """The other objective, on the horizontal axis."""
    objective: list[float]
    trials: list[int]
    front: list[int]
    """Positions in the lists of the trials on the front, from left to right."""
    tested: list[tuple[float, float, int]]
    """(other objective, first objective, trial) of the retrained trials of the front, metrics on the test images."""


def fronts(run: RunData) -> list[Figure]:
    """Draw the first objective against each of the others; no figures if the search has one objective or no completed trial."""
    figures = []
    for name in run.further:
        info = front_info(run, name)
        if info.front:
            title = f"{wording.objective_name(run).capitalize()} against {wording.figure_words(name)}"
            tests = "Diamonds show the test images after retraining." if info.tested else ""
            caption = f"Dots are completed trials, the line joins those of the front. {tests}".strip()
            figures.append(Figure(f"front-{name}", title, caption, _draw(run, info, name)))
    return figures


def front_info(run: RunData, name: str) -> FrontInfo:
    """Compute the content of a figure of the front. A config that ran several times is on the front with its means, at its first trial.

    Args:
        run: The run.
        name: The objective on the horizontal axis, a column of `trials`.
    """
    means = {row["trial"]: {key: row[key] for key in ("objective", name)} for row in run.rows("front")}
    completed = [row | means.get(row["trial"], {}) for row in completed_inside(run.rows("trials"))]
    # A cost of 0 has no place on a logarithmic axis.
    completed = [row for row in completed if (row[name] if is_cost(name) else row[name] is not None)]
    place = {row["trial"]: position for position, row in enumerate(completed)}
    members = sorted((row for row in run.rows("front") if row["trial"] in place), key=lambda row: row[name])
    ends = (name if is_cost(name) else name_on_test_images(name), name_on_test_images(run.objective))
    return FrontInfo(
        further=[float(row[name]) for row in completed],
        objective=[row["objective"] for row in completed],
        trials=[row["trial"] for row in completed],
        front=[place[row["trial"]] for row in members],
        tested=[
            (row[ends[0]], row[ends[1]], row["trial"]) for row in members if None not in (row[ends[0]], row[ends[1]])
        ],
    )


def _draw(run: RunData, info: FrontInfo, name: str) -> go.Figure:
    title = f"{wording.figure_words(name)} ({'higher' if is_maximized(name) else 'lower'} is better)"
    figure = go.Figure(layout=base_layout(title, wording.objective_name(run), height=340))
    x, y = ([values[i] for i in info.front] for values in (info.further, info.objective))
    # The steps of two objectives bound what the front dominates.
    shape = "linear" if len(run.further) > 1 else "vh" if is_maximized(name) else "hv"
    line = {"color": GREEN, "width": 2, "shape": shape}
    figure.add_scatter(x=x, y=y, mode="lines", line=line, name="front", hoverinfo="skip")
    at = f"%{{x{':.3s' if is_cost(name) else hover_format(name)}}}"
    hover = f"trial %{{customdata}}: %{{y{hover_format(run.objective)}}} at {at}<extra></extra>"
    add_trials(figure, info.further, info.objective, info.trials, ["completed"] * len(info.trials), hovertemplate=hover)
    if info.tested:
        further, objective, trials = zip(*info.tested, strict=True)
        about = f"trial %{{customdata}} retrained: %{{y{hover_format(run.objective)}}} at {at} on test images<extra></extra>"
        marker = {"color": ORANGE, "symbol": "diamond-open", "size": 11}
        more: dict[str, Any] = {"customdata": trials, "mode": "markers", "marker": marker, "hovertemplate": about}
        figure.add_scatter(x=further, y=objective, name="retrained, test images", **more)
    figure.update_xaxes(number_axis(info.further, is_log=True) | {"type": "log"} if is_cost(name) else value_axis(name))
    figure.update_yaxes(value_axis(run.objective))
    return figure
