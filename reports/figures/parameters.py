"""Draws the effect of the parameters: importance, parallel coordinates, slices."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from winnow.reports.figures.style import (
    BLUE,
    GREY,
    MAX_OWN_TICKS,
    ORANGE,
    Figure,
    add_trials,
    base_layout,
    faded,
    focus,
    hover_format,
    number_axis,
    short_number,
    value_axis,
)
from winnow.reports.statuses import is_ranked, value_at_end
from winnow.reports.subsample import MAX_FITTED, MAX_TRIALS, best_positions, drawn, note
from winnow.reports.text import wording
from winnow.reports.visible import plotly_text

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_AXES = 6
"""Largest number of axes of parallel coordinates, which are unreadable with more; the most important parameters are shown."""
MAX_SLICES = 12
NUM_BEST = 100
"""Number of the best trials, which are always drawn."""
FEW_TRIALS = 20
"""Number of trials below which an importance is a rough estimate."""


@dataclass(frozen=True)
class _ImportanceInfo:
    """The parameters with an importance, the most important first."""

    labels: list[str]
    importances: list[float]
    deviations: list[float]
    """Standard deviations of the importances over the trees of the forest."""
    num_trials: list[int]
    conditions: list[str]
    left_out: int
    """Number of parameters with too few trials."""
    estimated: bool
    """Whether the importance is computed from estimated final values instead of each trial's last value."""


def importance(run: RunData) -> list[Figure]:
    """Draw bars of fANOVA importance, with the number of trials used for each."""
    info = _importance_info(run)
    if not info.labels:
        return []
    caption = (
        f"Share of the variance of the {wording.objective_name(run)} that each parameter explains by itself (fANOVA), "
        "among the trials that have the parameter; n is their number. The line at the end of a bar is the standard deviation over the "
        "trees of the forest."
    )
    if (few := sum(n < FEW_TRIALS for n in info.num_trials)) and few < len(info.labels):
        caption += f" {wording.plural(few, 'parameter')} with fewer than {FEW_TRIALS} trials can be shown by a click in the legend."
    elif few:
        caption += f" Pale bars are estimates from fewer than {FEW_TRIALS} trials."
    caption += f" {_about_values(info)}"
    num = len(scored_trials(run))
    if (fitted := len(drawn(num, MAX_FITTED))) < num:
        caption += f" Fitted to {fitted:,} of {num:,} trials, evenly spaced."
    if info.left_out:
        caption += f" {wording.plural(info.left_out, 'parameter')} had too few trials for an estimate."
    return [Figure("importance", "Which parameters mattered", caption, _draw_importance(info))]


def _importance_info(run: RunData) -> _ImportanceInfo:
    rows = run.table("importance").to_pylist()
    known = [row for row in rows if row["importance"] is not None]
    return _ImportanceInfo(
        labels=[plotly_text(row["parameter"]) for row in known],
        importances=[row["importance"] for row in known],
        deviations=[row["importance_std"] or 0.0 for row in known],
        num_trials=[row["num_trials"] for row in known],
        conditions=[plotly_text(f"if {row['condition']}") if row["condition"] else "in every trial" for row in known],
        left_out=len(rows) - len(known),
        estimated=any(row["values"] != "last" for row in known),
    )


def _about_values(info: _ImportanceInfo) -> str:
    if info.estimated:
        return (
            "Each trial counts with its estimated value after the full training: in this search, values at one rung say "
            "little about the next one, and a regression on the parameters predicts it better."
        )
    return "Each trial counts with its last value, which is from fewer epochs if the trial was stopped."


def _draw_importance(info: _ImportanceInfo) -> go.Figure:
    """Draw bars, the most important on top. Bars that are based on few trials are hidden at first if there are others."""
    shown = [place for place, n in enumerate(info.num_trials) if n >= FEW_TRIALS]
    few = [place for place in range(len(info.labels)) if place not in shown]
    layout = base_layout("share", "", height=110 + 24 * len(shown or few))
    figure = go.Figure(layout=layout)
    for places, name, color in (
        (shown, f"{FEW_TRIALS} trials or more", BLUE),
        (few, f"fewer than {FEW_TRIALS} trials", faded(BLUE, 0.45)),
    ):
        if places:
            figure.add_bar(
                x=[info.importances[place] for place in reversed(places)],
                y=[info.labels[place] for place in reversed(places)],
                error_x={
                    "type": "data",
                    "array": [info.deviations[place] for place in reversed(places)],
                    "color": GREY,
                },
                orientation="h",
                name=name,
                visible="legendonly" if shown and places is few else True,
                marker={"color": color, "line": {"color": BLUE, "width": 1.5}},
                legendgroup=name,
                customdata=[info.conditions[place] for place in reversed(places)],
                hovertemplate="%{y}: %{x:.1%}<br>%{customdata}<extra></extra>",
            )
            figure.add_scatter(
                x=[info.importances[place] + info.deviations[place] for place in reversed(places)],
                y=figure.data[-1].y,
                text=[f"  n={info.num_trials[place]}" for place in reversed(places)],
                mode="text",
                textposition="middle right",
                cliponaxis=False,
                visible=figure.data[-1].visible,
                legendgroup=name,
                showlegend=False,
                hoverinfo="skip",
            )
    longest = max(share + deviation for share, deviation in zip(info.importances, info.deviations, strict=True))
    figure.update_xaxes(tickformat=".0%", range=[0, 1.3 * longest or 1], nticks=5, tickangle=0)
    figure.update_yaxes(tickfont_size=11)
    figure.update_layout(showlegend=bool(shown and few))
    return figure


@dataclass(frozen=True)
class _Axis:
    """The axis of one parameter: the position of each trial (None if the parameter was not active) and the ticks."""

    path: str
    positions: list[float | None]
    ticks: dict[float, str]
    """Tick texts by position; empty for a numeric axis."""
    is_log: bool


def parallel_coordinates(run: RunData) -> list[Figure]:
    """Draw the most important parameters and the objective, with one line per trial. Dragging along an axis selects trials."""
    scored = scored_trials(run)
    if len(scored) < 2:
        return []
    rows = _drawn_trials(run, scored)
    paths, about = _paths_of_axes(run)
    axes = [_axis(run, path, rows) for path in paths]
    caption = (
        "One line per trial that did not fail, coloured by rank (orange is best, grey is worst); drag along an axis to keep only the trials in a range. "
        f"{_shown_text(len(axes))}{about}; lines at the bottom (-) are trials without that parameter. "
        f"{about_stopped(rows)}"
    ) + note(len(rows), len(scored), f"the {NUM_BEST} best trials")
    plot = _draw_parallel(run, axes, rows)
    return [Figure("parallel", "Parallel coordinates", caption, plot, min_width=110 * (len(axes) + 1))]


def _shown_text(num: int) -> str:
    return f"Shown are the {num} most important parameters" if num > 1 else "Shown is the most important parameter"


def about_stopped(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return a sentence about the values that figures show for stopped trials.

    Args:
        rows: Rows of `trials`.
    """
    if any(row["estimated_end"] is not None for row in rows):
        return (
            "A trial that did not complete is shown with its estimated value after the full training, because values at "
            "one rung say little about the next one in this search."
        )
    return "A stopped trial is shown with its last value, which belongs to fewer epochs."


def scored_trials(run: RunData) -> list[dict[str, Any]]:
    """Return the rows of `trials` that have an objective and did not fail."""
    return run.once("scored_trials", lambda: _scored_trials(run))


def _scored_trials(run: RunData) -> list[dict[str, Any]]:
    rows = [row for row in run.rows("trials") if row["in_space"]]
    return [row for row in rows if is_ranked(row)]


def _drawn_trials(run: RunData, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Choose the trials to draw: all of them, or the best and evenly spaced others if there are many.

    Args:
        run: The run, which says whether larger values are better.
        rows: Trials with an objective.

    Returns:
        At most `MAX_TRIALS` of the rows, in their order.
    """
    best = best_positions([value_at_end(row) for row in rows], run.maximize, NUM_BEST)
    return [rows[i] for i in drawn(len(rows), MAX_TRIALS, best)]


def _paths_by_importance(run: RunData) -> list[str]:
    """Return the parameter columns that differ between trials: by importance, then by the number of trials that have them.

    A column shared by several branches, such as `optimizer.lr`, can have many trials although each branch has too few for
    an importance.
    """
    rows = scored_trials(run)
    table = run.table("importance").to_pylist()
    known = dict.fromkeys(row["path"] for row in table if row["importance"] is not None)
    others = {row["path"] for row in table} - known.keys()
    num_had = {path: sum(row[path] is not None for row in rows) for path in others}
    paths = [*known, *sorted(others, key=lambda path: (-num_had[path], path))]
    return [path for path in paths if len({row[path] for row in rows if row[path] is not None}) > 1]


def _paths_of_axes(run: RunData) -> tuple[list[str], str]:
    """Return the parameters of parallel coordinates, and a limit to them in words: those whose importance is shown without a click."""
    paths, table = _paths_by_importance(run), run.rows("importance")
    shown = {row["path"] for row in table if row["importance"] is not None and row["num_trials"] >= FEW_TRIALS}
    supported = [path for path in paths if path in shown]
    return (supported or paths)[:MAX_AXES], f" with {FEW_TRIALS} trials or more" if supported else ""


def _axis(run: RunData, path: str, rows: Sequence[dict[str, Any]]) -> _Axis:
    values = [row[path] for row in rows]
    is_log = _is_log(run, path, values)
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values if value is not None):
        return _Axis(path, [_position(value, is_log) for value in values], {}, is_log)
    used = {_label(value) for value in values if value is not None}
    names = [name for name in _options(run, path) if name in used]
    place = {name: float(i) for i, name in enumerate(names)}
    positions = [None if value is None else place[_label(value)] for value in values]
    return _Axis(path, positions, {i: name for name, i in place.items()}, False)


def _options(run: RunData, path: str) -> list[str]:
    """Return the options of all branches at a path, in the order of the space."""
    domains = [parameter.domain for parameter in run.space.parameters() if parameter.path == path]
    return list(dict.fromkeys(_label(domain.encode(option)) for domain in domains for option in domain.ends()))


def _is_log(run: RunData, path: str, values: Iterable[Any]) -> bool:
    """Return whether the domain of a column is logarithmic in every branch, and every value can be drawn so.

    A branch that fixes the parameter, or an earlier space, may have given it the value 0.
    """
    logs = [bool(parameter.domain.is_log) for parameter in run.space.parameters() if parameter.path == path]
    return bool(logs) and all(logs) and all(_is_positive(value) for value in values if value is not None)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and value > 0


def _position(value: float | None, is_log: bool) -> float | None:
    return value if value is None or not is_log else math.log10(value)


def _label(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else plotly_text(str(value))


def _draw_parallel(run: RunData, axes: Sequence[_Axis], rows: Sequence[dict[str, Any]]) -> go.Figure:
    objective = [value_at_end(row) for row in rows]
    dimensions = [_dimension(axis) for axis in axes]
    form = value_axis(run.objective)["tickformat"]
    dimensions.append({"label": wording.objective_name(run), "values": objective, "tickformat": form})
    order = sorted(range(len(rows)), key=lambda i: objective[i], reverse=not run.maximize)
    rank = {row: place / (len(rows) - 1) for place, row in enumerate(order)}
    colors = [rank[i] for i in range(len(rows))]
    line = {"color": colors, "colorscale": [[0, GREY], [0.6, BLUE], [1, ORANGE]], "showscale": False}
    figure = go.Figure(layout={"template": "none", "height": 440, "margin": {"l": 70, "r": 70, "t": 70, "b": 24}})
    figure.add_parcoords(dimensions=dimensions, line=line, labelangle=-18, labelside="top")
    return figure


def _dimension(axis: _Axis) -> dict[str, Any]:
    known = [position for position in axis.positions if position is not None]
    low, high = min(known), max(known)
    below = low - 0.12 * ((high - low) or 1.0)
    ticks = dict(axis.ticks) or _ticks(known, axis.is_log)
    if len(known) < len(axis.positions):
        ticks = {below: "-", **ticks}
        low = below
    return {
        "label": plotly_text(axis.path),
        "values": [below if position is None else position for position in axis.positions],
        "range": [low, high if high > low else low + 1.0],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def _ticks(positions: Sequence[float], is_log: bool) -> dict[float, str]:
    """Return the values themselves if there are few; otherwise five evenly spaced values."""
    places = sorted(set(positions))
    if len(places) > MAX_OWN_TICKS:
        low, high = places[0], places[-1]
        places = [low + (high - low) * i / (MAX_OWN_TICKS - 1) for i in range(MAX_OWN_TICKS)]
    return {place: short_number(10**place if is_log else place) for place in places}


@dataclass(frozen=True)
class _SliceInfo:
    """One parameter against the objective."""

    path: str
    x: list[Any]
    y: list[float]
    trials: list[int]
    statuses: list[str]
    is_log: bool
    is_category: bool
    num_trials: int
    """Number of trials, including those not drawn."""


def slices(run: RunData) -> tuple[list[Figure], int]:
    """Draw the objective against each of the most important parameters. Logarithmic domains have a logarithmic axis.

    Returns:
        The figures, and the number of parameters left out.
    """
    figures = []
    paths = _paths_by_importance(run)
    for path in paths[:MAX_SLICES]:
        info = _slice_info(run, path)
        caption = wording.plural(info.num_trials, "trial") + note(len(info.y), info.num_trials, f"the {NUM_BEST} best")
        figures.append(Figure(f"slice-{path.replace('.', '-')}", path, caption, _draw_slice(run, info)))
    return figures, len(paths) - len(figures)


def _slice_info(run: RunData, path: str) -> _SliceInfo:
    active = [row for row in scored_trials(run) if row[path] is not None]
    rows = _drawn_trials(run, active)
    is_category = any(isinstance(row[path], bool | str) for row in rows)
    return _SliceInfo(
        path=path,
        x=[_label(row[path]) if is_category else row[path] for row in rows],
        y=[value_at_end(row) for row in rows],
        trials=[row["trial"] for row in rows],
        statuses=[row["status"] for row in rows],
        is_log=_is_log(run, path, [row[path] for row in rows]),
        is_category=is_category,
        num_trials=len(active),
    )


def _draw_slice(run: RunData, info: _SliceInfo) -> go.Figure:
    layout = base_layout("", "", height=230, showlegend=False, margin={"l": 8, "r": 8, "t": 8, "b": 8})
    figure = go.Figure(layout=layout)
    hover = f"trial %{{customdata}}<br>%{{x}}: %{{y{hover_format(run.objective)}}}<extra></extra>"
    add_trials(figure, info.x, info.y, info.trials, info.statuses, hovertemplate=hover)
    if info.is_category:
        order = {"categoryorder": "array", "categoryarray": _options(run, info.path)}
        figure.update_xaxes(type="category", **order, autotickangles=[0, 45, 90], tickfont_size=11)
    else:
        figure.update_xaxes(number_axis(info.x, info.is_log, room=3), tickangle=0, tickfont_size=11)
    figure.update_yaxes(value_axis(run.objective) | focus(info.y, run.maximize))
    return figure
