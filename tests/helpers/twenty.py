"""Twenty images of the classes a and b, wherever a case wants them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.helpers.cases import IMAGES
from tests.helpers.layouts import png
from winnow.search.data.image_data import ImageData

NUM = 20
NAMES = ["ab"[k % 2] for k in range(NUM)]


def images_in(folder: Path, names: list[str] | None = None) -> list[str]:
    """Twenty images, `0.png` to `19.png`; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = names or [f"{k}.png" for k in range(NUM)]
    for k, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(IMAGES[k]))
    return names


def truth(data: ImageData, names: list[str] = NAMES) -> bool:
    """Whether every image has the class that it was given, and none is missing."""
    expected = {IMAGES[k].tobytes(): name for k, name in enumerate(names)}
    images = [
        data.train_images,
        data.test_images,
        *([data.validation_images] if data.validation_images is not None else []),
    ]
    labels = [
        data.train_labels,
        data.test_labels,
        *([data.validation_labels] if data.validation_labels is not None else []),
    ]
    given = {
        image.tobytes(): data.class_names[label]
        for image, label in zip(np.concatenate(images), np.concatenate(labels), strict=True)
    }
    return given == expected
