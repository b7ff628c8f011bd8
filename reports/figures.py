"""What all figures share: colours that read on light and on dark, one marker per status, and the frame of a figure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

# Middle tones: each at least 3:1 against both page backgrounds (WCAG 2.2, 1.4.11; held by a test).
BLUE, ORANGE, GREEN, RED = "#3b82d6", "#cf6f12", "#2f9e6b", "#e0524a"
PURPLE, GREY, PINK, TEAL = "#9b6bd6", "#848b94", "#d65a9b", "#1f97a3"
LIGHT_PAGE, DARK_PAGE = "#ffffff", "#15181d"

STATUS_COLORS: dict[str, str] = {
    "completed": BLUE,
    "stopped": GREY,
    "diverged": RED,
    "out_of_memory": ORANGE,
    "failed": PINK,
    "running": GREEN,
    "skipped": GREY,
}
# Colour is never the only sign.
STATUS_SYMBOLS: dict[str, str] = {
    "completed": "circle",
    "stopped": "x-thin-open",
    "diverged": "triangle-down",
    "out_of_memory": "square",
    "failed": "cross",
    "running": "circle-open",
    "skipped": "line-ew-open",
}


@dataclass(frozen=True)
class Figure:
    """One figure of the report. `caption` says what it shows and how to read it; `min_width` in pixels lets it scroll."""

    id: str
    title: str
    caption: str
    plot: go.Figure
    min_width: int = 0


def base_layout(x: str, y: str, height: int = 380, **more: Any) -> dict[str, Any]:
    """Titles and room; the page adds the colours of its theme."""
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


def value_axis(objective: str) -> dict[str, Any]:
    """Tick format of an axis that holds the objective."""
    return {"tickformat": ".0%" if objective.endswith("accuracy") else ".3g"}


def hover_format(objective: str) -> str:
    return ":.2%" if objective.endswith("accuracy") else ":.4g"
