"""The most confident mistakes of the winner, with their images as `data:` URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from reports.tables import read_predictions
from reports.winners import retrain_groups

if TYPE_CHECKING:
    from reports.run import RunData

MAX_IMAGES = 24


@dataclass(frozen=True)
class _Mistake:
    """One test image that the winner got wrong."""

    index: int
    true: str
    predicted: str
    confidence: float
    probability_true: float
    image: np.ndarray  # uint8 [H, W, C]


def gallery(run: RunData) -> str:
    """The mistakes as an HTML list; empty where there are none."""
    return "".join(f"<li>{_item(mistake)}</li>" for mistake in _mistakes(run))


def gallery_of(arrays: dict[str, np.ndarray], class_names: Sequence[str]) -> str:
    """The same of the arrays of any prediction file."""
    return "".join(f"<li>{_item(mistake)}</li>" for mistake in _mistakes_of(arrays, class_names))


def _mistakes(run: RunData) -> list[_Mistake]:
    """Of the first seed of the first winner that has predictions; the most confident first."""
    lines = [line for group in retrain_groups(run) for line in group if line.get("rank") == 1]
    arrays = next((found for line in lines if (found := read_predictions(run, line)) is not None), None)
    return [] if arrays is None else _mistakes_of(arrays, run.class_names)


def _mistakes_of(arrays: dict[str, np.ndarray], class_names: Sequence[str]) -> list[_Mistake]:
    if "gallery_images" not in arrays:
        return []
    rows = {int(index): row for row, index in enumerate(arrays["index"])}
    mistakes = []
    for index, image in zip(arrays["gallery_index"].tolist(), arrays["gallery_images"], strict=True):
        row = rows.get(index)
        if row is not None and arrays["true"][row] != arrays["predicted"][row]:
            mistakes.append(
                _Mistake(
                    index=index,
                    true=_name(class_names, int(arrays["true"][row])),
                    predicted=_name(class_names, int(arrays["predicted"][row])),
                    confidence=float(arrays["confidence"][row]),
                    probability_true=float(arrays["probability_true"][row]),
                    image=image,
                )
            )
    return sorted(mistakes, key=lambda mistake: -mistake.confidence)[:MAX_IMAGES]


def _name(class_names: Sequence[str], label: int) -> str:
    return class_names[label] if label < len(class_names) else str(label)


def _item(mistake: _Mistake) -> str:
    text = f"{mistake.true} taken for {mistake.predicted}"
    return (
        f'<img src="{_data_uri(mistake.image)}" alt="test image {mistake.index}: {escape(text, quote=True)}" loading="lazy">'
        f"<p>{escape(text)}<br><small>sure by {mistake.confidence:.0%}, "
        f"{mistake.probability_true:.0%} for {escape(mistake.true)}; image {mistake.index}</small></p>"
    )


def _data_uri(image: np.ndarray) -> str:
    from PIL import Image

    pixels = image[:, :, 0] if image.shape[2] == 1 else image
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
