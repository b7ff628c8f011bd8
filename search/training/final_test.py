"""The final evaluation on the test images: figures, and the predictions for the report."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow.search.data.image_data import ImageData
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import evaluate
from winnow.search.training.heartbeat import write_beating
from winnow.spaces.epoch_figures import name_on_test_images
from winnow.spaces.schema import Config

NUM_MISTAKES_KEPT = 24  # images of the most confident mistakes, for the gallery in the report


def evaluate_test_set(
    config: Config, weights: dict[str, torch.Tensor], on_device: DeviceData, data: ImageData, output: Path | str | None
) -> dict[str, float | None]:
    """Evaluate the final weights on the test images.

    Args:
        config: The config that was trained.
        weights: The state dict to evaluate.
        on_device: The images that the training used; their normalization and device are used here.
        data: The data set, whose test images are evaluated.
        output: Path or URI of an .npz file to write with every prediction (docs/reports.md); None: none is written.

    Returns:
        `test_loss`, `num_classes_answered` (the number of classes that are predicted for at least one image), and the metrics of
        `winnow.spaces.epoch_figures.METRICS` under their names on test images, such as `test_accuracy`.
    """
    evaluation = evaluate(config, weights, on_device, data.test_images, data.test_labels)
    if output is not None:
        write_beating(str(output), _packed(evaluation.probabilities, data))
    metrics = {name_on_test_images(name): value for name, value in evaluation.metrics.items()}
    num_predicted = len(np.unique(evaluation.probabilities.argmax(1)))
    return {
        "test_loss": evaluation.loss,
        "test_accuracy": evaluation.accuracy,
        **metrics,
        "num_classes_answered": num_predicted,
    }


def _packed(probabilities: np.ndarray, data: ImageData) -> memoryview:
    true = data.test_labels
    rows = np.arange(len(true))
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[rows, predicted]
    mistakes = rows[predicted != true]
    gallery = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:NUM_MISTAKES_KEPT]
    buffer = io.BytesIO()
    names = {"name": np.array(data.test_names)} if data.test_names else {}
    arrays: dict[str, Any] = dict(
        index=rows,
        true=true,
        predicted=predicted,
        confidence=confidence.astype(np.float32),
        probabilities=probabilities.astype(np.float16),
        probability_true=probabilities[rows, true].astype(np.float32),
        gallery_index=gallery,
        gallery_images=data.test_images[gallery],
        **names,
    )
    np.savez_compressed(buffer, **arrays)
    return buffer.getbuffer()
