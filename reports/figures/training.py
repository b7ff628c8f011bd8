"""Draws one training: its learning curves and the loss of every batch."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

import plotly.graph_objects as go

from winnow.reports.figures.style import BLUE, GREY, ORANGE, Figure, base_layout

MAX_BATCHES_DRAWN = 3000
Epochs = Sequence[dict[str, Any]]


def curves(epochs: Epochs) -> list[Figure]:
    """Draw loss and accuracy by epoch, on the training and the validation images."""
    about = "Training values are means over the epoch, with changing weights, dropout and augmentation; validation values are measured after the epoch."
    return [
        Figure("curve-loss", "Loss", about, _curve(epochs, "loss", ".4~g")),
        Figure("curve-accuracy", "Accuracy", about, _curve(epochs, "accuracy", ".2~%")),
    ]


def batch_losses(epochs: Epochs) -> list[Figure]:
    """Draw the training loss of every batch, with the median of each epoch. There is no figure if the losses were not recorded."""
    if not any(line.get("batch_losses") for line in epochs):
        return []
    x, y = _thinned(epochs)
    figure = go.Figure(layout=base_layout("epoch", "training loss of a batch"))
    figure.add_scatter(x=x, y=y, mode="lines", line={"color": GREY, "width": 1}, name="one batch", hoverinfo="x+y")
    middles = [(line["epoch"] - 0.5, median(line["batch_losses"])) for line in epochs if line.get("batch_losses")]
    figure.add_scatter(
        x=[epoch for epoch, _ in middles],
        y=[loss for _, loss in middles],
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        name="median of the epoch",
    )
    caption = "One point per batch; epoch 1 runs from 0 to 1. Zoom in to see single batches."
    return [Figure("batch-losses", "Loss within the epochs", caption, figure)]


def _curve(epochs: Epochs, what: str, tick_format: str) -> go.Figure:
    figure = go.Figure(layout=base_layout("epoch", what))
    for part, color, dash in (("train", BLUE, "dot"), ("validation", ORANGE, "solid")):
        known = [line for line in epochs if line[f"{part}_{what}"] is not None]
        figure.add_scatter(
            x=[line["epoch"] for line in known],
            y=[line[f"{part}_{what}"] for line in known],
            mode="lines+markers",
            line={"color": color, "dash": dash},
            marker={"size": 5},
            name=part,
        )
    figure.update_yaxes(tickformat=tick_format)
    return figure


def _thinned(epochs: Epochs) -> tuple[list[float], list[float]]:
    """Return the positions of the batches, in epochs, and their losses. If there are very many, only every k-th batch is used."""
    points = [
        (line["epoch"] - 1 + (i + 0.5) / len(losses), loss)
        for line in epochs
        if (losses := line.get("batch_losses"))
        for i, loss in enumerate(losses)
    ]
    kept = points[:: -(-len(points) // MAX_BATCHES_DRAWN)]
    return [round(x, 5) for x, _ in kept], [round(y, 5) for _, y in kept]
