"""Draws the best objective so far against time, epochs, and GPU-hours or CPU-hours."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import pyarrow.compute as pc

from winnow.reports import rows as plain
from winnow.reports.figures.style import BLUE, GREY, Figure, base_layout, hover_format, value_axis
from winnow.reports.subsample import MAX_EPOCHS, drawn
from winnow.reports.text import wording

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


@dataclass(frozen=True)
class _BestInfo:
    """The finished epochs of the search in order of time, and the best objective up to each."""

    seconds: list[float]
    """Since the start of the first epoch."""
    device_seconds: list[float]
    """GPU-seconds of all trials so far, or CPU-seconds if no training used a GPU; empty if not recorded."""
    device: str
    """`GPU` or `CPU`."""
    values: list[float]
    best: list[float | None]
    """Among the trials in the current space; None before the first of them."""
    trials: list[int]
    inside: list[bool]


def best_so_far(run: RunData) -> list[Figure]:
    """The best objective against wall time, epochs, and the GPU-hours (on a CPU: CPU-hours) of all trials together."""
    info = _best_info(run)
    if not any(info.inside):
        return []
    axes: dict[str, tuple[list[float], str]] = {
        "time": _scaled(info.seconds),
        "epochs": ([i + 1.0 for i in range(len(info.values))], "epochs"),
    }
    if info.device_seconds:
        axes[f"{info.device}-hours"] = _scaled(info.device_seconds, f"{info.device}-")
    # The line has a corner wherever the best changes; if there are very many dots, every k-th is drawn.
    last = len(info.best) - 1
    corners = [i for i, value in enumerate(info.best) if i in (0, last) or value != info.best[i - 1]]
    shown = drawn(len(info.best), MAX_EPOCHS, corners)
    return [
        Figure(
            f"best-by-{name.lower()}",
            f"Against {name}",
            _CAPTIONS.get(name, ""),
            _draw_best(run, info, shown, x, title),
        )
        for name, (x, title) in axes.items()
    ]


_CAPTIONS = {
    "time": "Since the search began.",
    "epochs": "Sum over all trials.",
    "GPU-hours": "Wall time multiplied by the GPUs in use.",
    "CPU-hours": "Wall time multiplied by the CPUs in use.",
}


def _best_info(run: RunData) -> _BestInfo:
    known = (pc.field("phase") == "search") & pc.field("time").is_valid() & pc.field(run.objective).is_valid()
    epochs = run.epochs.select(["phase", "trial", "time", run.objective, "wall_seconds", "gpus", "cpus"]).filter(known)
    if not len(epochs):
        return _BestInfo([], [], "CPU", [], [], [], [])
    epochs = epochs.drop_columns("phase").sort_by([("time", "ascending"), ("trial", "ascending")])
    # Microseconds: making a datetime for each takes longer than all the rest.
    moments = epochs["time"].cast("int64").to_pylist()
    start = _start(run, moments[0])
    rows = plain.lists(epochs.drop_columns("time"))
    device = "GPU" if any(rows["gpus"]) else "CPU"
    held, seconds, values = rows[f"{device.lower()}s"], rows["wall_seconds"], rows[run.objective]
    spent = [] if None in held or None in seconds else [a * b for a, b in zip(held, seconds, strict=True)]
    inside = [trial not in run.outside for trial in rows["trial"]]
    counted = iter(
        accumulate((v for v, counts in zip(values, inside, strict=True) if counts), max if run.maximize else min)
    )
    best: list[float | None] = []
    for counts in inside:
        best.append(next(counted) if counts else best[-1] if best else None)
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
    """Convert seconds to a unit that keeps the numbers small: (values, name of the unit)."""
    last = seconds[-1]
    scale, unit = (1.0, "seconds") if last < 300 else (60.0, "minutes") if last < 3 * 3600 else (3600.0, "hours")
    return [value / scale for value in seconds], f"{prefix}{unit}"


def _draw_best(run: RunData, info: _BestInfo, shown: list[int], x: list[float], x_title: str) -> go.Figure:
    form = hover_format(run.objective)
    figure = go.Figure(layout=base_layout(x_title, wording.objective_name(run), height=320))
    hover = f"trial %{{customdata}}: %{{y{form}}}<extra></extra>"
    name = "an epoch" if len(shown) == len(x) else f"an epoch ({len(shown):,} of {len(x):,} shown)"
    for counts, label, symbol in ((True, name, "circle"), (False, "outside the current space", "circle-open")):
        if not (places := [i for i in shown if info.inside[i] == counts]):
            continue
        figure.add_scatter(
            x=[x[i] for i in places],
            y=[info.values[i] for i in places],
            customdata=[info.trials[i] for i in places],
            mode="markers",
            marker={"color": GREY, "size": 4, "opacity": 0.55, "symbol": symbol},
            name=label,
            hovertemplate=hover,
        )
    line = {"color": BLUE, "width": 2.5, "shape": "hv"}
    hover = f"best so far: %{{y{form}}} at %{{x:.3g}} {x_title}<extra></extra>"
    best = {"x": [x[i] for i in shown], "y": [info.best[i] for i in shown]}
    figure.add_scatter(**best, mode="lines", line=line, name="best so far", hovertemplate=hover)
    figure.update_yaxes(
        value_axis(run.objective),
        range=_range_after_start([v for v in info.best if v is not None], run.objective),
        autorange=False,
    )
    figure.update_xaxes(rangemode="tozero")
    return figure


def _range_after_start(best: list[float], objective: str) -> list[float]:
    """The range of an axis for the best values after the first twentieth of the epochs: later values differ little."""
    early, last = best[len(best) // 20], best[-1]
    room = 0.08 * abs(last - early) or 0.02 * abs(last) or 0.02
    low, high = min(early, last), max(early, last)
    top = high + room
    return [low - room, min(top, 1.0 + 0.2 * room) if objective.endswith("accuracy") else top]
