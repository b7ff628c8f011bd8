"""Collects the most confident mistakes of a network, with their images as `data:` URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from winnow.reports.reading.predictions import encoded_gallery

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_IMAGES = 24


@dataclass(frozen=True)
class Mistake:
    """A test image that the network got wrong."""

    index: int
    """Index in the test set."""
    true: str
    """Name of the true class."""
    predicted: str
    """Name of the predicted class."""
    confidence: float
    """Probability of the predicted class, 0 to 1."""
    probability_true: float
    """Probability of the true class, 0 to 1."""
    image: bytes
    """The image as PNG."""

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.image).decode()


def winner_mistakes(run: RunData) -> list[Mistake]:
    """The mistakes of the first winner's first seed, the most confident first; empty if there are no predictions."""
    import pyarrow.compute as pc

    of_winner = run.predictions.filter(pc.field("rank") == 1)
    if not len(of_winner):
        return []
    first_seed = of_winner.column("seed")[0]
    kept = (pc.field("seed") == first_seed) & ~pc.field("correct") & pc.field("image").is_valid()
    return _most_confident(
        Mistake(
            index=row["index"],
            true=row["true_class"],
            predicted=row["predicted_class"],
            confidence=row["confidence"],
            probability_true=row["probability_true"],
            image=row["image"],
        )
        for row in of_winner.filter(kept).to_pylist()
    )


def mistakes_of(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> list[Mistake]:
    """The mistakes in the arrays of a prediction file, the most confident first."""
    images = encoded_gallery(arrays)
    return _most_confident(
        Mistake(
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


def _most_confident(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_IMAGES]


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else str(label)
