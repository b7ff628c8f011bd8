"""What a reader of a data set gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Arrays:
    """Images uint8 [N, H, W, C], labels int64 [N]; None where the data set has no such part.

    Where there is a test part and `data.limit` is set, `train_images` may hold the first `limit` images alone;
    `train_labels` are always those of all training images, so that the classes can be checked.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    class_names: tuple[str, ...]
    validation_images: np.ndarray | None = None
    validation_labels: np.ndarray | None = None
    test_images: np.ndarray | None = None
    test_labels: np.ndarray | None = None
