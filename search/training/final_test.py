"""The one look at the test images: figures, and what the report shows of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from winnow.search.data.image_data import ImageData
from winnow.search.storage import remote as storage
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import evaluate
from winnow.spaces.schema import Config

NUM_MISTAKES_KEPT = 24  # images of the most confident mistakes, for the report's gallery


def evaluate_test_set(
    config: Config, weights: dict[str, torch.Tensor], on_device: DeviceData, data: ImageData, output: Path | str | None
) -> dict[str, float]:
    """`test_loss` and `test_accuracy` in [0, 1]; with `output` (a path or a URI), an .npz of every prediction (docs/reports.md)."""
    evaluation = evaluate(config, weights, on_device, data.test_images, data.test_labels)
    if output is not None:
        storage.write(str(output), _packed(evaluation.probabilities, data))
    return {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}


def _packed(probabilities: np.ndarray, data: ImageData) -> memoryview:
    true = data.test_labels
    rows = np.arange(len(true))
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[rows, predicted]
    mistakes = rows[predicted != true]
    gallery = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:NUM_MISTAKES_KEPT]
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        index=rows,
        true=true,
        predicted=predicted,
        confidence=confidence.astype(np.float32),
        probability_true=probabilities[rows, true].astype(np.float32),
        gallery_index=gallery,
        gallery_images=data.test_images[gallery],
    )
    return buffer.getbuffer()
