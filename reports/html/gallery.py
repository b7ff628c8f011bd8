"""Collects the most confident mistakes of a network, with their images as `data:` URIs."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from winnow.reports.reading.predictions import encoded_gallery
from winnow.reports.text.mistakes import mistake_rows

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

MAX_IMAGES = 24


@dataclass(frozen=True)
class Mistake:
    """A test image that the network classified wrongly."""

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
    name: str
    """File of the image or its row in the data set; its index if that was not recorded."""
    num_wrong: int = 1
    """Number of seeds whose network classified it wrongly."""
    num_seeds: int = 1

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.image).decode()


def winner_mistakes(run: RunData) -> list[Mistake]:
    """Return the mistakes of the first winner over all its seeds, sorted by the number of seeds and then by confidence.

    Each image appears once, with the most confident of its wrong predictions; empty if there are no predictions.
    """
    return [
        Mistake(
            index=row["index"],
            true=row["true_class"],
            predicted=row["predicted_class"],
            confidence=row["confidence"],
            probability_true=row["probability_true"],
            image=row["image"],
            name=row["image_name"] or f"image {row['index']}",
            num_wrong=row["num_wrong"],
            num_seeds=row["num_seeds"],
        )
        for row in mistake_rows(run)
        if row["image"] is not None
    ][:MAX_IMAGES]


def mistakes_of(arrays: Mapping[str, np.ndarray], class_names: Sequence[str]) -> list[Mistake]:
    """Return the mistakes in the arrays of a prediction file, the most confident ones first.

    Args:
        arrays: Arrays by name: `index`, `true`, `predicted`, `confidence` and `probability_true`
            [N], optionally `name`, and the gallery of encoded images.
        class_names: Names of the classes, in the order of the class numbers.

    Returns:
        At most `MAX_IMAGES` mistakes whose image is in the gallery.
    """
    images = encoded_gallery(arrays)
    return _most_confident(
        Mistake(
            index=int(index),
            true=_name(class_names, int(arrays["true"][row])),
            predicted=_name(class_names, int(arrays["predicted"][row])),
            confidence=float(arrays["confidence"][row]),
            probability_true=float(arrays["probability_true"][row]),
            image=images[int(index)],
            name=str(arrays["name"][row]) if "name" in arrays else f"image {int(index)}",
        )
        for row, index in enumerate(arrays["index"])
        if int(index) in images and arrays["true"][row] != arrays["predicted"][row]
    )


def _most_confident(mistakes: Iterable[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_IMAGES]


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else str(label)
