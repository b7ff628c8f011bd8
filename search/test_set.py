"""The one look at the test images: figures, and what the report shows of it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from search.training.data import ImageData
from search.training.evaluate import evaluate
from search.training.pipeline import DeviceData
from spaces.schema import Config

NUM_MISTAKES_KEPT = 24  # images of the most confident mistakes, for the report's gallery


def test_once(
    config: Config, weights: dict[str, torch.Tensor], on_device: DeviceData, data: ImageData, output: Path | None
) -> dict[str, float]:
    """`test_loss` and `test_accuracy` in [0, 1]; with `output`, an .npz of every prediction (docs/reports.md)."""
    evaluation = evaluate(config, weights, on_device, data.test_images, data.test_labels)
    if output is not None:
        _save(output, evaluation.probabilities, data)
    return {"test_loss": evaluation.loss, "test_accuracy": evaluation.accuracy}


def _save(path: Path, probabilities: np.ndarray, data: ImageData) -> None:
    true = data.test_labels
    rows = np.arange(len(true))
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities[rows, predicted]
    mistakes = rows[predicted != true]
    gallery = mistakes[np.argsort(-confidence[mistakes], kind="stable")][:NUM_MISTAKES_KEPT]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez_compressed(
        temporary,
        index=rows,
        true=true,
        predicted=predicted,
        confidence=confidence.astype(np.float32),
        probability_true=probabilities[rows, true].astype(np.float32),
        gallery_index=gallery,
        gallery_images=data.test_images[gallery],
    )
    os.replace(temporary, path)
