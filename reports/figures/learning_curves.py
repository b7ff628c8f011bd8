"""Draws the learning curves with their rungs, and how the epochs were spent."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import plotly.graph_objects as go

from winnow.reports.facts import keep_earlier_weights
from winnow.reports.figures.style import (
    GREY,
    STATUS_COLORS,
    STATUS_SYMBOLS,
    Figure,
    base_layout,
    focus,
    hover_format,
    value_axis,
)
from winnow.reports.statuses import STATUS_WORDS, STATUSES
from winnow.reports.subsample import MAX_CURVES, best_positions, drawn, note
from winnow.reports.text import wording
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

NUM_BEST = 50
"""Number of the curves with the best last values, which are always drawn."""
OUTSIDE = "outside the current space"


@dataclass(frozen=True)
class _CurvesInfo:
    """The learning curves of the trials with a finished epoch, by status, and the rungs."""

    curves: dict[str, dict[int, tuple[list[int], list[float]]]]
    """{status: {trial: (epochs, values)}}, statuses in the order of `STATUSES`, then `OUTSIDE` for any status."""
    rungs: list[int]
    num_trials: int
    """Number of trials, including those not drawn."""


def learning_curves(run: RunData) -> list[Figure]:
    """Draw the objective of every trial by epoch. Vertical lines show rungs, and a cross marks the stop of a trial."""
    info = _curves_info(run)
    if not info.curves:
        return []
    caption = (
        "One line per trial. Dotted lines are the rungs, at which trials continue or stop; a cross marks a stop. "
        "If outliers would compress the other values, the axis leaves out the worst; a button shows all. "
        "Click a name in the legend to hide or show its trials; enter a number to see the curve of one trial."
    )
    if keep_earlier_weights(run.rows("trials")):
        caption += f" {wording.own_values_text('A curve')}"
    caption += note(
        sum(map(len, info.curves.values())), info.num_trials, f"the {NUM_BEST} trials with the best last values"
    )
    return [Figure("learning-curves", "Learning curves", caption, _draw_curves(run, info))]


def _curves_info(run: RunData) -> _CurvesInfo:
    status = {row["trial"]: row["status"] for row in run.rows("trials")}
    by_group: dict[str, dict[int, tuple[list[int], list[float]]]] = defaultdict(dict)
    columns = run.columns("epochs", ("phase", "trial", "epoch", run.objective)).values()
    for phase, trial, epoch, value in zip(*columns, strict=True):
        if phase == "search" and value is not None and trial in status:
            group = OUTSIDE if trial in run.outside else status[trial]
            epochs, values = by_group[group].setdefault(trial, ([], []))
            epochs.append(epoch)
            values.append(value)
    last = {trial: values[-1] for curves in by_group.values() for trial, (_, values) in curves.items()}
    trials = sorted(last)
    best = best_positions([last[trial] for trial in trials], run.maximize, NUM_BEST)
    kept = {trials[i] for i in drawn(len(trials), MAX_CURVES, best)}
    groups = [name for name in (*STATUSES, OUTSIDE) if name in by_group]
    thinned = {name: {t: curve for t, curve in by_group[name].items() if t in kept} for name in groups}
    return _CurvesInfo({name: curves for name, curves in thinned.items() if curves}, run.rungs, len(trials))


def _draw_curves(run: RunData, info: _CurvesInfo) -> go.Figure:
    figure = go.Figure(layout=base_layout("epoch", wording.objective_name(run), height=460))
    for status, curves in reversed(info.curves.items()):
        x: list[int | None] = []
        y: list[float | None] = []
        trials: list[int | None] = []
        symbols: list[str] = []
        for trial, (epochs, values) in curves.items():
            # Each status is one trace with gaps, since a thousand traces would take the browser seconds.
            x += [*epochs, None]
            y += [*values, None]
            trials += [trial] * (len(epochs) + 1)
            symbols += ["circle"] * (len(epochs) - 1) + [STATUS_SYMBOLS.get(status, "circle"), "circle"]
        sizes = [9 if symbol != "circle" else 4 for symbol in symbols]
        color = STATUS_COLORS.get(status, GREY)
        figure.add_scatter(
            x=x,
            y=y,
            customdata=trials,
            mode="lines+markers",
            line={
                "color": color,
                "width": 1.5 if status == TrialStatus.COMPLETED else 1,
                "dash": "dot" if status == OUTSIDE else "solid",
            },
            marker={"symbol": symbols, "size": sizes, "color": color, "line": {"color": color, "width": 2}},
            opacity=0.9 if status == TrialStatus.COMPLETED else 0.7,
            name=f"{STATUS_WORDS.get(status, status)} ({len(curves)})",
            hovertemplate=f"trial %{{customdata}}, epoch %{{x}}: %{{y{hover_format(run.objective)}}}<extra></extra>",
        )
    for rung in info.rungs:
        figure.add_vline(x=rung, line={"dash": "dot", "width": 1, "color": GREY})
    figure.update_layout(legend_traceorder="reversed")
    values = [value for curves in info.curves.values() for _, line in curves.values() for value in line]
    figure.update_yaxes(value_axis(run.objective) | focus(values, run.maximize))
    figure.update_xaxes(rangemode="tozero")
    return figure


@dataclass(frozen=True)
class _BudgetInfo:
    """Epochs trained between the rungs, by the status of the trial."""

    stretches: list[str]
    """`epochs 1 to 3`, ..."""
    num_reached: list[int]
    """Trials that reached the end of the stretch."""
    epochs: dict[str, list[int]]
    """{status: epochs trained in each stretch}."""


def budget(run: RunData) -> list[Figure]:
    """Draw how the epochs were spent, by the rungs between which they lie and the status of the trial."""
    info = _budget_info(run)
    if not info.epochs:
        return []
    caption = "Epochs trained between consecutive rungs, by the status of the trial. Above each bar: trials that reached its end."
    return [Figure("budget", "Where the epochs went", caption, _draw_budget(info))]


def _budget_info(run: RunData) -> _BudgetInfo:
    rungs = run.table("rungs").to_pylist()
    ends = [row["epoch"] for row in rungs]
    starts = [1, *(end + 1 for end in ends)]
    names = [f"epoch {a}" if a == b else f"epochs {a} to {b}" for a, b in zip(starts, ends, strict=False)]
    trials = run.rows("trials")
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
        name = STATUS_WORDS[status]
        hover = f"{name}: %{{y}} epochs in %{{x}}<extra></extra>"
        figure.add_bar(x=info.stretches, y=epochs, name=name, marker_color=STATUS_COLORS[status], hovertemplate=hover)
    totals = [sum(column) for column in zip(*info.epochs.values(), strict=True)]
    for stretch, total, reached in zip(info.stretches, totals, info.num_reached, strict=True):
        figure.add_annotation(x=stretch, y=total, text=wording.plural(reached, "trial"), showarrow=False, yshift=10)
    return figure
