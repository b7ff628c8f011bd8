"""The most confident mistakes of the winner, with their images as `data:` URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from winnow.reports.reading.predictions import encoded_gallery

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_IMAGES = 24


@dataclass(frozen=True)
class _Mistake:
    """One test image that the winner got wrong."""

    index: int
    true: str
    predicted: str
    confidence: float
    probability_true: float
    image: bytes
    """PNG."""


def gallery(run: RunData) -> str:
    """The mistakes as an HTML list; empty where there are none."""
    return "".join(f"<li>{_item(mistake)}</li>" for mistake in _mistakes(run))


def gallery_of(arrays: dict[str, np.ndarray], class_names: Sequence[str]) -> str:
    """The same of the arrays of any prediction file."""
    return "".join(f"<li>{_item(mistake)}</li>" for mistake in _mistakes_of(arrays, class_names))


def _mistakes(run: RunData) -> list[_Mistake]:
    """Of the first seed of the first winner that has predictions; the most confident first."""
    import pyarrow.compute as pc

    of_winner = run.predictions.filter(pc.field("rank") == 1)
    if not len(of_winner):
        return []
    first_seed = of_winner.column("seed")[0]
    kept = (pc.field("seed") == first_seed) & ~pc.field("correct") & pc.field("image").is_valid()
    return _most_confident(
        _Mistake(row["index"], row["true_class"], row["predicted_class"], row["confidence"], row["probability_true"], row["image"])
        for row in of_winner.filter(kept).to_pylist()
    )  # fmt: skip


def _mistakes_of(arrays: dict[str, np.ndarray], class_names: Sequence[str]) -> list[_Mistake]:
    images = encoded_gallery(arrays)
    return _most_confident(
        _Mistake(
            index=int(index),
            true=_name(class_names, int(arrays["true"][row])),
            predicted=_name(class_names, int(arrays["predicted"][row])),
            confidence=float(arrays["confidence"][row]),
            probability_true=float(arrays["probability_true"][row]),
            image=images[int(index)],
        )
        for row, index in enumerate(arrays["index"])
        if int(index) in images and arrays["true"][row] != arrays["predicted"][row]
    )


def _most_confident(mistakes: Iterable[_Mistake]) -> list[_Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_IMAGES]


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else str(label)


def _item(mistake: _Mistake) -> str:
    text = f"{mistake.true} taken for {mistake.predicted}"
    uri = "data:image/png;base64," + base64.b64encode(mistake.image).decode()
    return (
        f'<img src="{uri}" alt="test image {mistake.index}: {escape(text, quote=True)}" loading="lazy">'
        f"<p>{escape(text)}<br><small>sure by {mistake.confidence:.0%}, "
        f"{mistake.probability_true:.0%} for {escape(mistake.true)}; image {mistake.index}</small></p>"
    )
