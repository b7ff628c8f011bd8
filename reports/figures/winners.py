"""Draws the retrained winners: intervals, confusion matrix, accuracy per class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from winnow.reports.facts import are_comparable
from winnow.reports.figures.style import (
    BLUE,
    ORANGE,
    PURPLE,
    RED,
    Figure,
    Scale,
    base_layout,
    faded,
    hover_format,
    value_axis,
)
from winnow.reports.text import wording
from winnow.reports.visible import plotly_text, visible
from winnow.spaces.epoch_figures import name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_WRITTEN_CLASSES = 12
"""With at most this many classes, each cell of the confusion matrix shows its number."""
MAX_LARGE_CLASSES = 40
"""With more classes the labels of the confusion matrix are small, and Plotly leaves some out where they would overlap."""
MAX_LABEL = 18
"""Largest number of characters of a class name at an axis. A longer name is shortened there; it is shown in full on hover."""


@dataclass(frozen=True)
class _WinnersInfo:
    """The retrained configs, each with its mean, its interval, the value of each seed, and the validation accuracy in the search."""

    labels: list[str]
    means: list[float]
    below: list[float]
    """Distance from the mean to the lower end of the interval; 0 if there is no interval."""
    above: list[float]
    seeds: list[list[float]]
    search: list[float | None]
    names: tuple[str, str]
    """The objective on the test and on the validation images."""
    objective: str
    over: str
    """The variation that the intervals cover, such as `over seeds and test images`."""
    left_out: bool
    """Whether the baseline is left out, because its loss is of another kind."""


def winners(run: RunData) -> list[Figure]:
    """Draw the objective of the winners and the baseline on the test images: mean, 95 % interval, each seed, and the value in the search."""
    info = _winners_info(run)
    if not info.labels:
        return []
    left_out = " The baseline is left out, as its loss is of another kind." if info.left_out else ""
    bars = (
        f"Dot and bar: mean {info.names[0]} and its 95 % interval {info.over}"
        if info.over
        else f"Dot: mean {info.names[0]}"
    )
    caption = (
        f"{bars}; ticks: the seeds. "
        f"Open diamond: {info.names[1]} in the search; its distance from the dot is the search-to-retrain gap.{left_out}"
    )
    return [Figure("winners", "Winners on the test images", caption, _draw_winners(info))]


def _winners_info(run: RunData) -> _WinnersInfo:
    all_rows = [row for row in run.winners.to_pylist() if row["test_objective"] is not None]
    rows = [row for row in all_rows if are_comparable(run, row, all_rows[0])]
    tested = name_on_test_images(run.objective)
    retrains = run.table("retrains").to_pylist()
    return _WinnersInfo(
        labels=[winner_label(row) for row in rows],
        means=[row["test_objective"] for row in rows],
        below=[_distance(row, "low") for row in rows],
        above=[_distance(row, "high") for row in rows],
        seeds=[[each[tested] for each in retrains if _same(each, row) and each[tested] is not None] for row in rows],
        search=[row["search_objective"] for row in rows],
        names=(wording.tested_name(run), wording.objective_name(run)),
        objective=run.objective,
        over=wording.intervals_over(run, rows),
        left_out=len(rows) < len(all_rows),
    )


def _distance(row: dict[str, Any], end: str) -> float:
    """Return the distance from the mean to an end of its interval; 0 if there is none."""
    value = row[f"test_objective_{end}"]
    return 0.0 if value is None else abs(float(value) - float(row["test_objective"]))


def winner_label(row: dict[str, Any]) -> str:
    """Return the label of a winner, such as `1 (trial 12)` or `baseline`."""
    return "baseline" if row["baseline"] else f"{row['rank']} (trial {row['trial']})"


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(a[key] == b[key] for key in ("baseline", "rank", "trial"))


def _draw_winners(info: _WinnersInfo) -> go.Figure:
    layout = base_layout(info.names[0], "", height=110 + 44 * len(info.labels))
    figure = go.Figure(layout=layout)
    error = {"type": "data", "array": info.above, "arrayminus": info.below, "thickness": 2.5, "width": 7, "color": BLUE}
    figure.add_scatter(
        x=info.means,
        y=info.labels,
        error_x=error,
        mode="markers",
        marker={"color": BLUE, "size": 11},
        name="mean, 95 % interval",
        hovertemplate=f"%{{x{hover_format(info.objective)}}}<extra>mean</extra>",
    )
    seeds = [(value, label) for label, values in zip(info.labels, info.seeds, strict=True) for value in values]
    tick = {"color": PURPLE, "size": 15, "symbol": "line-ns-open", "line": {"width": 2}}
    _add_dots(figure, seeds, "one seed", tick, info.objective)
    search = [(value, label) for label, value in zip(info.labels, info.search, strict=True) if value is not None]
    diamond = {"color": ORANGE, "size": 10, "symbol": "diamond-open", "line": {"width": 2}}
    _add_dots(figure, search, "validation, in the search", diamond, info.objective)
    figure.update_xaxes(value_axis(info.objective))
    figure.update_yaxes(categoryorder="array", categoryarray=list(reversed(info.labels)))
    return figure


def _add_dots(
    figure: go.Figure, points: list[tuple[float, str]], name: str, marker: dict[str, Any], objective: str
) -> None:
    x, y = [value for value, _ in points], [label for _, label in points]
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker=marker,
        name=name,
        hovertemplate=f"%{{x{hover_format(objective)}}}<extra>{name}</extra>",
    )


@dataclass(frozen=True)
class _ConfusionInfo:
    """Numbers of test images by true (row) and predicted (column) class, summed over all seeds of the first winner."""

    classes: list[str]
    counts: np.ndarray  # int64 [classes, classes]

    @property
    def shares(self) -> np.ndarray:
        """The counts as shares of the images of the true class, float64 [classes, classes]; zeros for a class without images."""
        return self.counts / np.maximum(self.counts.sum(axis=1, keepdims=True), 1)

    @property
    def largest_mistake(self) -> float:
        """Largest share of a class that is predicted as one other class; 0 if there are no mistakes."""
        return float(np.where(np.eye(len(self.classes), dtype=bool), 0, self.shares).max())


def confusion(run: RunData) -> list[Figure]:
    """Draw the confusion matrix and the accuracy per class of the first winner, over all its seeds."""
    info = _confusion_info(run)
    seeds = next((row["num_seeds"] for row in run.rows("winners") if row["rank"] == 1), 1)
    return _confusion_figures(info, f" All {seeds} networks of the winner are counted together." if seeds > 1 else "")


def confusion_of(true: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> list[Figure]:
    """Draw the confusion matrix and the accuracy per class of any predictions.

    Args:
        true: True classes, int64 [n].
        predicted: Predicted classes, int64 [n].
        class_names: Name of each class.
    """
    return _confusion_figures(_count(true, predicted, class_names))


def _confusion_figures(info: _ConfusionInfo, about: str = "") -> list[Figure]:
    if not info.counts.sum():
        return []
    caption = (
        "Rows: true class; columns: predicted class. The colour of a cell is its share of the images of the true class: blue is right, "
        "orange is wrong, each on its own scale."
    )
    if len(info.classes) <= MAX_WRITTEN_CLASSES:
        caption += " The number is how many images."
    caption += about
    pairs = _worst_pairs(info)
    if pairs:
        caption += f" Most often confused: {', '.join(pairs)}."
    classes = "Share of the test images of each class that were classified correctly, the hardest class at the top."
    return [
        Figure(
            "confusion", "What it confuses", caption, _draw_confusion(info), _width_of_confusion(info), _scales(info)
        ),
        Figure("per-class", "Accuracy by class", classes, _draw_per_class(info)),
    ]


def _scales(info: _ConfusionInfo) -> tuple[Scale, ...]:
    """Return the colour scale of the diagonal, and that of the mistakes if there are any."""
    most = info.largest_mistake
    right = Scale("right, share of the class", "0\u00a0%", "100\u00a0%", _ends(BLUE))
    wrong = Scale("wrong, share of the class", "0\u00a0%", f"{100 * most:.3g}\u00a0%", _ends(ORANGE))
    return (right, wrong) if most else (right,)


def _ends(color: str) -> tuple[str, str]:
    return faded(color, 0.1), faded(color, 0.75)


def _confusion_info(run: RunData) -> _ConfusionInfo:
    chosen = run.predictions.column("rank").to_numpy(zero_copy_only=False) == 1
    true, predicted = (run.predictions.column(name).to_numpy()[chosen] for name in ("true", "predicted"))
    return _count(true, predicted, run.class_names)


def _count(true: np.ndarray, predicted: np.ndarray, class_names: Sequence[str]) -> _ConfusionInfo:
    n = max(len(class_names), int(max(true.max(), predicted.max())) + 1 if len(true) else 0)
    counts = np.zeros((n, n), dtype=np.int64)
    np.add.at(counts, (true, predicted), 1)
    names = [*class_names, *(str(i) for i in range(len(class_names), n))]
    return _ConfusionInfo(names, counts)


def _worst_pairs(info: _ConfusionInfo, top: int = 3) -> list[str]:
    wrong = info.counts * (1 - np.eye(len(info.classes), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:top]
    pairs = [divmod(int(place), len(info.classes)) for place in order if wrong.flat[place] > 0]
    return [f"{info.classes[a]} predicted as {info.classes[b]} ({info.shares[a, b]:.1%})" for a, b in pairs]


def _short_names(names: Sequence[str]) -> list[str]:
    """Return a distinct label of each class for an axis, in which the middle of a long name is left out."""
    labels: list[str] = []
    for name in map(visible, names):
        short = name if len(name) <= MAX_LABEL else f"{name[: MAX_LABEL - 8]}…{name[-7:]}"
        numbered = (f"{short} ({number})" for number in count(2))
        labels.append(short if short not in labels else next(label for label in numbered if label not in labels))
    return labels


def _label_pixels(labels: Sequence[str]) -> int:
    """Return about how long the longest label is."""
    return 7 * max(map(len, labels))


def _width_of_confusion(info: _ConfusionInfo) -> int:
    """Return the width that the labels and each column need; on a narrower page the figure scrolls."""
    n = len(info.classes)
    column = 26 if n <= MAX_WRITTEN_CLASSES else 16 if n <= MAX_LARGE_CLASSES else 9
    return min(1000, 40 + _label_pixels(_short_names(info.classes)) + column * n)


def _draw_confusion(info: _ConfusionInfo) -> go.Figure:
    n = len(info.classes)
    short = _short_names(info.classes)
    labels, names = ([plotly_text(name) for name in each] for each in (short, info.classes))
    diagonal = np.eye(n, dtype=bool)
    large = n <= MAX_LARGE_CLASSES
    height = min(720, max(340, 120 + 34 * n)) if large else min(1500, 160 + 11 * n)
    layout = base_layout("predicted", "true", height=height + _label_pixels(short))
    figure = go.Figure(layout=layout)
    wrong = ~diagonal & (info.counts > 0)
    for keep, color, most in ((diagonal, BLUE, 1.0), (wrong, ORANGE, info.largest_mistake or 1.0)):
        figure.add_heatmap(
            z=np.where(keep, info.shares, np.nan).tolist(),
            x=labels,
            y=labels,
            text=np.where(keep, info.counts.astype(str), "").tolist() if n <= MAX_WRITTEN_CLASSES else None,
            texttemplate="%{text}" if n <= MAX_WRITTEN_CLASSES else None,
            hovertext=[
                [
                    f"{names[i]} predicted as {names[j]}: {wording.plural(info.counts[i, j], 'image')}"
                    if keep[i, j]
                    else ""
                    for j in range(n)
                ]
                for i in range(n)
            ],
            colorscale=list(enumerate(_ends(color))),
            zmin=0,
            zmax=most,
            showscale=False,  # the page shows the scales: `Figure.scales`
            xgap=1,
            ygap=1,
            hovertemplate="%{hovertext}, %{z:.1%} of the class<extra></extra>",
            hoverongaps=False,
        )
    figure.update_xaxes(type="category", showgrid=False, constrain="domain", tickfont_size=12 if large else 9)
    figure.update_yaxes(type="category", showgrid=False, autorange="reversed", tickfont_size=12 if large else 9)
    return figure


def _draw_per_class(info: _ConfusionInfo) -> go.Figure:
    accuracy = np.diag(info.shares)
    order = np.argsort(-accuracy, kind="stable")
    n = len(order)
    labels = _short_names(info.classes)
    figure = go.Figure(layout=base_layout("accuracy", "", height=90 + (24 if n <= 30 else 14) * n))
    figure.add_scatter(
        x=accuracy[order].tolist(),
        y=[plotly_text(labels[i]) for i in order],
        hovertext=[plotly_text(info.classes[i]) for i in order],
        customdata=info.counts.sum(axis=1)[order].tolist(),
        mode="markers",
        marker={"color": [RED if accuracy[i] < 0.5 else BLUE for i in order], "size": 9},
        hovertemplate="%{hovertext}: %{x:.1%} of %{customdata}<extra></extra>",
    )
    figure.update_xaxes(tickformat=".2~%")
    figure.update_yaxes(type="category", tickfont_size=11 if n <= 30 else 9, dtick=1, range=[-0.7, n - 0.3])
    return figure
