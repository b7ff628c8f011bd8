"""The style of all figures: colours for light and dark pages, one marker per status, and the layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from winnow.reports.statuses import STATUS_WORDS
from winnow.spaces.epoch_figures import is_share

# Medium tones: a contrast of at least 3:1 with both page backgrounds (WCAG 2.2, 1.4.11; a test checks it).
BLUE, ORANGE, GREEN, RED = "#3b82d6", "#cf6f12", "#2f9e6b", "#e0524a"
PURPLE, GREY, PINK = "#9b6bd6", "#848b94", "#d65a9b"
LEAST_TICK_DISTANCE = 0.12
"""Smallest distance of two ticks as a share of the axis; the labels of closer ticks overlap in a slice."""
MAX_OWN_TICKS = 5
"""With at most this many distinct values, the ticks of an axis are the values themselves."""
LIGHT_PAGE, DARK_PAGE = "#ffffff", "#15181d"

STATUS_COLORS: dict[str, str] = {
    "completed": BLUE,
    "stopped": GREY,
    "diverged": RED,
    "out_of_memory": ORANGE,
    "failed": PINK,
    "lost": PURPLE,
    "infeasible": GREY,
    "timed_out": PURPLE,
    "running": GREEN,
    "skipped": GREY,
}
# Colour alone never distinguishes statuses.
STATUS_SYMBOLS: dict[str, str] = {
    "completed": "circle",
    "stopped": "x-thin-open",
    "diverged": "triangle-down",
    "out_of_memory": "square",
    "failed": "cross",
    "lost": "diamond-open",
    "infeasible": "hexagon-open",
    "timed_out": "hourglass-open",
    "running": "circle-open",
    "skipped": "line-ew-open",
}


@dataclass(frozen=True)
class Scale:
    """What the colours of a figure mean: a name, and the value and the colour at both ends."""

    name: str
    low: str
    high: str
    colors: tuple[str, str]


@dataclass(frozen=True)
class Figure:
    """One figure of the report."""

    id: str
    title: str
    caption: str
    """Explains what the figure shows and how to read it."""
    plot: go.Figure
    min_width: int = 0
    """Minimum width in pixels. On a narrower page, the figure scrolls horizontally."""
    scales: tuple[Scale, ...] = ()
    """The colour scales, which the page shows below the caption, where they do not scroll with the figure."""


def base_layout(x: str, y: str, height: int = 380, **more: Any) -> dict[str, Any]:
    """Return the layout of a figure: axis titles and margins. The page adds the colours of its theme.

    Args:
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Height in pixels. Default: 380.
        **more: Further keys of Plotly's layout; they replace the keys of the same name.
    """
    return {
        "template": "none",
        "height": height,
        "margin": {"l": 8, "r": 12, "t": 34, "b": 8},
        "xaxis": {"title": {"text": x, "standoff": 8}, "automargin": True},
        "yaxis": {"title": {"text": y, "standoff": 8}, "automargin": True},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "xanchor": "left", "yanchor": "bottom"},
        "hovermode": "closest",
        "dragmode": "zoom",
        **more,
    }


def add_trials(
    figure: go.Figure, x: Sequence[Any], y: Sequence[float], trials: Sequence[int], statuses: Sequence[str], **more: Any
) -> None:
    """Add one dot per trial, in one trace per status.

    With a colour per dot instead, Plotly's validation takes ten times as long.

    Args:
        figure: The figure; it is changed.
        x: Horizontal position of each of N dots.
        y: Vertical position of each dot.
        trials: Trial number of each dot, for its hover text.
        statuses: Status of each trial, a key of `STATUS_COLORS`.
        **more: Further arguments of Plotly's scatter trace.
    """
    for status in dict.fromkeys(statuses):
        chosen = [i for i, other in enumerate(statuses) if other == status]
        color = STATUS_COLORS[status]
        figure.add_scatter(
            x=[x[i] for i in chosen],
            y=[y[i] for i in chosen],
            customdata=[trials[i] for i in chosen],
            mode="markers",
            marker={
                "color": color,
                "symbol": STATUS_SYMBOLS[status],
                "size": 9,
                "line": {"width": 1.5, "color": color},
            },
            name=STATUS_WORDS[status],
            **more,
        )


def value_axis(objective: str) -> dict[str, Any]:
    """Return the tick format of an axis that shows the objective."""
    return {"tickformat": ".2~%" if is_share(objective) else ".3g"}


def focus(values: Sequence[float], maximize: bool, share: float = 0.15) -> dict[str, Any]:
    """Return an axis that leaves out the worst values if outliers would compress the rest.

    A double click on the figure shows all values.

    Args:
        values: Values on the axis, at least one.
        maximize: Whether larger values are better.
        share: Share of the values that may be left out, in [0, 1]. Default: 0.15.

    Returns:
        Keys of Plotly's axis; empty if the axis shows all values.
    """
    ordered = sorted(values, reverse=maximize)
    best, kept, worst = ordered[0], ordered[int((1 - share) * (len(ordered) - 1))], ordered[-1]
    if abs(best - kept) > 0.5 * abs(best - worst) or best == kept:
        return {}
    room = 0.06 * abs(best - kept)
    return {"range": [min(best, kept) - room, max(best, kept) + room], "autorange": False}


def number_axis(values: Sequence[float], is_log: bool, room: int = 9) -> dict[str, Any]:
    """Choose the type and the ticks of a numeric axis.

    The ticks are the values themselves if they are few and not too close to each other.

    Args:
        values: Values on the axis, at least one; positive on a logarithmic axis.
        is_log: Whether the axis is logarithmic.
        room: Number of ticks that fit on a logarithmic axis. Default: 9.

    Returns:
        Keys of Plotly's axis; without ticks if Plotly chooses them.
    """
    distinct = sorted(set(values))
    if len(distinct) <= MAX_OWN_TICKS and _are_apart([math.log(value) for value in distinct] if is_log else distinct):
        ticks = distinct
    elif is_log:
        ticks = _decade_ticks(distinct[0], distinct[-1], room)
    else:
        return {"type": "linear"}
    return {"type": "log" if is_log else "linear", "tickvals": ticks, "ticktext": [short_number(v) for v in ticks]}


def _are_apart(ascending: Sequence[float]) -> bool:
    """Return whether the labels of these positions do not overlap."""
    least = LEAST_TICK_DISTANCE * (ascending[-1] - ascending[0])
    return all(high - low >= least for low, high in pairwise(ascending))


def _decade_ticks(low: float, high: float, room: int) -> list[float]:
    """Return the ticks of the densest of the steps 1-2-5, 1-3 and 1 with at most `room` ticks, or the ends of the range if there are none."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in ((1, 2, 5), (1, 3), (1,)):
        places = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [place for place in places if low * 0.9 <= place <= high * 1.1]
        if len(ticks) <= room:
            break
    return ticks[:: -(-len(ticks) // room) or 1] or [low, high]


def short_number(value: float) -> str:
    """Format a number briefly: 0.003, 20, 1.5k, 2M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def faded(color: str, opacity: float) -> str:
    """Make a colour transparent.

    Args:
        color: The colour as `#rrggbb`.
        opacity: From 0 (invisible) to 1 (opaque).

    Returns:
        The colour as `rgba(...)`.
    """
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def hover_format(objective: str) -> str:
    return ":.2%" if is_share(objective) else ":.4g"
