"""Figures of the search: best so far, learning curves with rungs, where the epochs went."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from reports import words
from reports.figures import BLUE, GREY, STATUS_COLORS, STATUS_SYMBOLS, Figure, base_layout, hover_format, value_axis
from reports.trials import STATUSES

if TYPE_CHECKING:
    from reports.run import RunData


@dataclass(frozen=True)
class _BestInfo:
    """Each finished epoch of the search in the order of time, and the best objective up to it."""

    seconds: list[float]
    """Since the first epoch began."""
    values: list[float]
    best: list[float]
    trials: list[int]


def best_so_far(run: RunData) -> list[Figure]:
    """The best objective against wall time, and against the epochs trained by all trials together."""
    info = _best_info(run)
    if not info.values:
        return []
    scale, unit = _time_unit(info.seconds[-1])
    name = words.objective_name(run)
    by_time = _draw_best(run, info, [s / scale for s in info.seconds], f"wall time ({unit})")
    by_epochs = _draw_best(run, info, [i + 1.0 for i in range(len(info.values))], "epochs trained, all trials together")
    caption = (
        f"Each dot is one finished epoch of some trial; the line is the best {name} found up to then. "
        "The axis leaves out the first steps; a double click shows all."
    )
    return [
        Figure("best-by-time", "Best so far, against time", caption, by_time),
        Figure("best-by-epochs", "Best so far, against epochs", "The same against the work done.", by_epochs),
    ]


def _best_info(run: RunData) -> _BestInfo:
    rows = [r for r in run.epochs.to_pylist() if r["phase"] == "search" and r["time"] and r[run.objective] is not None]
    rows.sort(key=lambda row: row["time"])
    if not rows:
        return _BestInfo([], [], [], [])
    start = _start(run, rows[0]["time"])
    better = max if run.maximize else min
    best: list[float] = []
    for row in rows:
        best.append(better(best[-1], row[run.objective]) if best else row[run.objective])
    return _BestInfo(
        seconds=[(row["time"] - start).total_seconds() for row in rows],
        values=[row[run.objective] for row in rows],
        best=best,
        trials=[row["trial"] for row in rows],
    )


def _start(run: RunData, first_epoch_end: datetime) -> datetime:
    started = [moment for moment in run.trials.column("started").to_pylist() if moment is not None]
    return min([*started, first_epoch_end])


def _time_unit(seconds: float) -> tuple[float, str]:
    if seconds < 300:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 3 * 3600 else (3600.0, "hours")


def _draw_best(run: RunData, info: _BestInfo, x: list[float], x_title: str) -> go.Figure:
    form = hover_format(run.objective)
    figure = go.Figure(layout=base_layout(x_title, words.objective_name(run), height=340))
    dots = {"color": GREY, "size": 4, "opacity": 0.55}
    hover = f"trial %{{customdata}}: %{{y{form}}}<extra></extra>"
    figure.add_scatter(
        x=x, y=info.values, customdata=info.trials, mode="markers", marker=dots, name="an epoch", hovertemplate=hover
    )
    line = {"color": BLUE, "width": 2.5, "shape": "hv"}
    hover = f"best so far: %{{y{form}}}<extra></extra>"
    figure.add_scatter(x=x, y=info.best, mode="lines", line=line, name="best so far", hovertemplate=hover)
    figure.update_yaxes(value_axis(run.objective), range=_range_after_start(info.best, run.objective), autorange=False)
    return figure


def _range_after_start(best: list[float], objective: str) -> list[float]:
    """An axis for the best values after the first twentieth of the epochs: what comes later differs by little."""
    early, last = best[len(best) // 20], best[-1]
    room = 0.08 * abs(last - early) or 0.02 * abs(last) or 0.02
    low, high = min(early, last), max(early, last)
    top = high + room
    return [low - room, min(top, 1.0 + 0.2 * room) if objective.endswith("accuracy") else top]


@dataclass(frozen=True)
class _CurvesInfo:
    """The learning curve of each trial that finished an epoch, by status; and where trials were judged."""

    curves: dict[str, dict[int, tuple[list[int], list[float]]]]
    """{status: {trial: (epochs, values)}}, statuses in the order of `STATUSES`."""
    rungs: list[int]


def learning_curves(run: RunData) -> list[Figure]:
    """The objective of every trial by epoch; vertical lines are rungs, a cross is where a trial was stopped."""
    info = _curves_info(run)
    if not info.curves:
        return []
    caption = (
        "One line per trial. Dotted lines are the rungs at which trials are judged; a cross marks where one was stopped. "
        "Click a name in the legend to hide or show its trials."
    )
    return [Figure("learning-curves", "Learning curves", caption, _draw_curves(run, info))]


def _curves_info(run: RunData) -> _CurvesInfo:
    status = dict(zip(run.trials.column("trial").to_pylist(), run.trials.column("status").to_pylist(), strict=True))
    found: dict[str, dict[int, tuple[list[int], list[float]]]] = defaultdict(dict)
    for row in run.epochs.to_pylist():
        if row["phase"] == "search" and row[run.objective] is not None and row["trial"] in status:
            epochs, values = found[status[row["trial"]]].setdefault(row["trial"], ([], []))
            epochs.append(row["epoch"])
            values.append(row[run.objective])
    return _CurvesInfo({name: found[name] for name in STATUSES if name in found}, run.rungs)


def _draw_curves(run: RunData, info: _CurvesInfo) -> go.Figure:
    figure = go.Figure(layout=base_layout("epoch", words.objective_name(run), height=460))
    for status, curves in reversed(info.curves.items()):
        x: list[int | None] = []
        y: list[float | None] = []
        trials: list[int | None] = []
        symbols: list[str] = []
        for trial, (epochs, values) in curves.items():
            # One trace per status, with gaps: a thousand traces would take the browser seconds.
            x += [*epochs, None]
            y += [*values, None]
            trials += [trial] * (len(epochs) + 1)
            symbols += ["circle"] * (len(epochs) - 1) + [STATUS_SYMBOLS[status], "circle"]
        sizes = [9 if symbol != "circle" else 4 for symbol in symbols]
        color = STATUS_COLORS[status]
        figure.add_scatter(
            x=x,
            y=y,
            customdata=trials,
            mode="lines+markers",
            line={"color": color, "width": 1.5 if status == "completed" else 1},
            marker={"symbol": symbols, "size": sizes, "color": color, "line": {"color": color, "width": 2}},
            opacity=0.9 if status == "completed" else 0.7,
            name=f"{words.STATUS_WORDS[status]} ({len(curves)})",
            hovertemplate=f"trial %{{customdata}}, epoch %{{x}}: %{{y{hover_format(run.objective)}}}<extra></extra>",
        )
    for rung in info.rungs:
        figure.add_vline(x=rung, line={"dash": "dot", "width": 1, "color": GREY})
    figure.update_layout(legend_traceorder="reversed")
    figure.update_yaxes(value_axis(run.objective))
    figure.update_xaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class _BudgetInfo:
    """Epochs trained between the rungs, by how the trial ended."""

    stretches: list[str]
    """`epochs 1 to 3`, ..."""
    num_reached: list[int]
    """Trials that finished the stretch."""
    epochs: dict[str, list[int]]
    """{status: epochs trained in each stretch}."""


def budget(run: RunData) -> list[Figure]:
    """Where the epochs went: to which stretch of the training, and to trials that ended how."""
    info = _budget_info(run)
    if not info.epochs:
        return []
    caption = (
        "Epochs trained in each stretch between two rungs, by how the trial ended; above: trials that got through."
    )
    return [Figure("budget", "Where the epochs went", caption, _draw_budget(info))]


def _budget_info(run: RunData) -> _BudgetInfo:
    rungs = run.table("rungs").to_pylist()
    ends = [row["epoch"] for row in rungs]
    starts = [1, *(end + 1 for end in ends)]
    names = [f"epoch {a}" if a == b else f"epochs {a} to {b}" for a, b in zip(starts, ends, strict=False)]
    trials = run.trials.select(["num_epochs", "status"]).to_pylist()
    epochs: dict[str, list[int]] = {}
    for status in STATUSES:
        done = [row["num_epochs"] for row in trials if row["status"] == status]
        spent = [sum(max(0, min(n, b) - a + 1) for n in done) for a, b in zip(starts, ends, strict=False)]
        if sum(spent):
            epochs[status] = spent
    return _BudgetInfo(names, [row["num_reached"] for row in rungs], epochs)


def _draw_budget(info: _BudgetInfo) -> go.Figure:
    figure = go.Figure(layout=base_layout("", "epochs trained", height=340, barmode="stack"))
    figure.update_layout(legend_traceorder="normal")
    for status, epochs in info.epochs.items():
        name = words.STATUS_WORDS[status]
        hover = f"{name}: %{{y}} epochs in %{{x}}<extra></extra>"
        figure.add_bar(x=info.stretches, y=epochs, name=name, marker_color=STATUS_COLORS[status], hovertemplate=hover)
    totals = [sum(column) for column in zip(*info.epochs.values(), strict=True)]
    for stretch, total, reached in zip(info.stretches, totals, info.num_reached, strict=True):
        figure.add_annotation(x=stretch, y=total, text=words.plural(reached, "trial"), showarrow=False, yshift=10)
    return figure
