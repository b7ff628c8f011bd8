"""Draws the best completed trial so far against time, epochs, or GPU-hours (CPU-hours)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import pyarrow.compute as pc

from winnow.reports import rows as plain
from winnow.reports.figures.style import BLUE, GREY, Figure, base_layout, hover_format, value_axis
from winnow.reports.subsample import MAX_EPOCHS, drawn
from winnow.reports.text import wording
from winnow.spaces.epoch_figures import is_maximized, is_share
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class _BestInfo:
    """The finished epochs of the search in order of time, and the best objective up to each."""

    seconds: list[float]
    """Seconds since the start of the first epoch."""
    device_seconds: list[float]
    """GPU-seconds of all trials so far, or CPU-seconds if no training used a GPU; empty if not recorded."""
    device: str
    """`GPU` or `CPU`."""
    values: list[float | None]
    """The objective of each epoch itself; None if it has no value there."""
    best: list[float | None]
    """Best value of the trials in the current space that had completed by then; None before the first of them."""
    trials: list[int]
    inside: list[bool]

    @property
    def values_inside(self) -> list[float]:
        """The values of the epochs of trials in the current space."""
        return [value for value, counts in zip(self.values, self.inside, strict=True) if counts and value is not None]


def best_so_far(run: RunData) -> list[Figure]:
    """Draw the best completed trial so far. Buttons choose the axis: time, epochs, or GPU-hours (CPU-hours on a CPU) of all trials."""
    info = _best_info(run)
    if not info.values_inside:
        return []
    axes: dict[str, tuple[list[float], str]] = {
        "time": _scaled(info.seconds),
        "epochs": ([i + 1.0 for i in range(len(info.values))], "epochs of all trials"),
    }
    if info.device_seconds:
        axes[f"{info.device}-hours"] = _scaled(info.device_seconds, f"{info.device}-")
    # The line has a corner wherever the best changes; if there are very many dots, every k-th is drawn.
    last = len(info.best) - 1
    corners = [i for i, value in enumerate(info.best) if i in (0, last) or value != info.best[i - 1]]
    shown = drawn(len(info.best), MAX_EPOCHS, corners)
    caption = (
        f"The line is the best {wording.objective_name(run)} of a completed trial, the value that trials are ranked by. Each dot is one "
        "finished epoch of one trial. The axis leaves out bad values of the first steps; a button shows them."
    )
    if info.best[-1] is None:
        caption = f"No trial has completed yet. {caption}"
    return [Figure("best-so-far", "Best so far", caption, _draw_best(run, info, shown, axes))]


def _best_info(run: RunData) -> _BestInfo:
    known = (pc.field("phase") == "search") & pc.field("time").is_valid()
    epochs = run.epochs.select(
        ["phase", "trial", "epoch", "time", run.objective, "wall_seconds", "gpus", "cpus"]
    ).filter(known)
    if not len(epochs):
        return _BestInfo([], [], "CPU", [], [], [], [])
    epochs = epochs.drop_columns("phase").sort_by([("time", "ascending"), ("trial", "ascending")])
    # These are microseconds, since creating a datetime for each takes longer than everything else.
    moments = epochs["time"].cast("int64").to_pylist()
    start = _start(run, moments[0])
    rows = plain.lists(epochs.drop_columns("time"))
    device = "GPU" if any(rows["gpus"]) else "CPU"
    held, seconds, values = rows[f"{device.lower()}s"], rows["wall_seconds"], rows[run.objective]
    spent = [] if None in held or None in seconds else [a * b for a, b in zip(held, seconds, strict=True)]
    inside = [trial not in run.outside for trial in rows["trial"]]
    ends = {
        (row["trial"], row["num_epochs"]): row["objective"]
        for row in run.rows("trials")
        if row["status"] == TrialStatus.COMPLETED and row["in_space"] and row["objective"] is not None
    }
    better = max if run.maximize else min
    best: list[float | None] = []
    so_far: float | None = None
    for place in zip(rows["trial"], rows["epoch"], strict=True):
        if (end := ends.get(place)) is not None:
            so_far = end if so_far is None else better(so_far, end)
        best.append(so_far)
    return _BestInfo(
        seconds=[(moment - start) / 1e6 for moment in moments],
        device_seconds=list(accumulate(spent)),
        device=device,
        values=values,
        best=best,
        trials=rows["trial"],
        inside=inside,
    )


def _start(run: RunData, first_epoch_end: int) -> int:
    started = pc.min(run.trials["started"]).cast("int64").as_py()
    return first_epoch_end if started is None else min(started, first_epoch_end)


def _scaled(seconds: list[float], prefix: str = "") -> tuple[list[float], str]:
    """Convert seconds to a unit that keeps the numbers small, and return the values and the name of the unit."""
    last = seconds[-1]
    scale, unit = (1.0, "seconds") if last < 300 else (60.0, "minutes") if last < 3 * 3600 else (3600.0, "hours")
    return [value / scale for value in seconds], f"{prefix}{unit}"


def _draw_best(
    run: RunData, info: _BestInfo, shown: list[int], axes: Mapping[str, tuple[list[float], str]]
) -> go.Figure:
    form = hover_format(run.objective)
    _, x_title = next(iter(axes.values()))
    figure = go.Figure(layout=base_layout(x_title, wording.objective_name(run), height=420))
    hover = f"trial %{{customdata}}: %{{y{form}}}<extra></extra>"
    dots = [i for i in shown if info.values[i] is not None]
    num_dots = sum(value is not None for value in info.values)
    name = "an epoch" if len(dots) == num_dots else f"an epoch ({len(dots):,} of {num_dots:,} shown)"
    traces: list[list[int]] = []
    for counts, label, symbol in ((True, name, "circle"), (False, "outside the current space", "circle-open")):
        if not (places := [i for i in dots if info.inside[i] == counts]):
            continue
        traces.append(places)
        figure.add_scatter(
            y=[info.values[i] for i in places],
            customdata=[info.trials[i] for i in places],
            mode="markers",
            marker={"color": GREY, "size": 4, "opacity": 0.55, "symbol": symbol},
            name=label,
            hovertemplate=hover,
        )
    traces.append(shown)
    figure.add_scatter(
        y=[info.best[i] for i in shown],
        mode="lines",
        line={"color": BLUE, "width": 2.5, "shape": "hv"},
        name="best so far",
        hovertemplate=f"best so far: %{{y{form}}} at %{{x:.3g}}<extra></extra>",
    )
    _offer_axes(figure, traces, axes)
    figure.update_yaxes(value_axis(run.objective), range=_range_after_start(info, run.objective), autorange=False)
    figure.update_xaxes(rangemode="tozero")
    return figure


def _offer_axes(
    figure: go.Figure, traces: Sequence[Sequence[int]], axes: Mapping[str, tuple[list[float], str]]
) -> None:
    """Add buttons that choose the horizontal axis; the first is shown.

    Args:
        figure: The figure, whose traces have no x yet.
        traces: The positions of the dots of each trace.
        axes: (value at each position, title) of each axis, by its name.
    """
    by_axis = {name: [[values[i] for i in places] for places in traces] for name, (values, _) in axes.items()}
    for trace, x in zip(figure.data, next(iter(by_axis.values())), strict=True):
        trace.x = x
    buttons = [
        {"label": f"by {name}", "method": "update", "args": [{"x": by_axis[name]}, {"xaxis.title.text": title}]}
        for name, (_, title) in axes.items()
    ]
    place = {"x": 0, "xanchor": "left", "y": 1.0, "yanchor": "bottom", "pad": {"b": 36}}
    look = {"bgcolor": "rgba(0,0,0,0)", "bordercolor": GREY, "font": {"size": 12}, "showactive": False}
    figure.update_layout(updatemenus=[{"type": "buttons", "direction": "right", "buttons": buttons, **place, **look}])
    figure.update_layout(margin_t=88)


def _range_after_start(info: _BestInfo, objective: str) -> list[float]:
    """Return the range of an axis around the best values, since the values of the first epochs would compress all others."""
    inside = info.values_inside
    best = [value for value in info.best if value is not None] or inside
    early, last = best[len(best) // 20], best[-1]
    further = max(inside) if is_maximized(objective) else min(inside)
    low, high = min(early, last, further), max(early, last, further)
    room = 0.08 * (high - low) or 0.02 * abs(last) or 0.02
    spread = float(np.subtract(*np.percentile(inside, [75, 25])))
    if is_maximized(objective):
        return [
            min(low, high - spread) - room,
            min(high + room, 1.0 + 0.6 * room) if is_share(objective) else high + room,
        ]
    return [max(0.0, low - room) if objective == "validation_loss" else low - room, max(high, low + spread) + room]
