"""Writes the predictions of a completed trial for the validation images, so that other metrics can be computed later."""

from __future__ import annotations

import io

import numpy as np
import torch

from winnow import models
from winnow.search.training.device_data import DeviceData
from winnow.search.training.evaluate import predict
from winnow.search.training.heartbeat import write_beating
from winnow.spaces import schema


def write_validation_answers(
    config: schema.Config, weights: dict[str, torch.Tensor], data: DeviceData, output: str
) -> None:
    """Predict the validation images with the weights that a trial kept, and write the predictions.

    Args:
        config: The config of the trial.
        weights: The state dict that it kept.
        data: The images on which it was trained and validated.
        output: Path or URI of the .npz file: index, true, predicted, confidence and probability_true [n], probabilities
            float16 [n, K]. The index counts the training images, or those of the data set's validation split.

    Raises:
        OSError: The file cannot be written.
    """
    validation = data.validation
    assert validation is not None  # a search always has validation images
    model = models.build(config.model, data.image_shape, data.num_classes).to(validation.device)
    model.load_state_dict(weights)
    logits, labels = predict(model, data, validation, config.precision)
    probabilities, true = logits.softmax(1).cpu().numpy(), labels.cpu().numpy()
    rows, predicted = np.arange(len(true)), probabilities.argmax(1)
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        index=validation.index.cpu().numpy(),
        true=true,
        predicted=predicted,
        confidence=probabilities[rows, predicted].astype(np.float32),
        probability_true=probabilities[rows, true].astype(np.float32),
        probabilities=probabilities.astype(np.float16),
    )
    write_beating(output, buffer.getbuffer())
