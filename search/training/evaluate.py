"""Evaluation of a network: its outputs for images, loss and accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from winnow import models
from winnow.search.training.device_data import DeviceData, Labelled
from winnow.search.training.heartbeat import beat
from winnow.search.training.losses import build_evaluation_loss
from winnow.search.training.metrics import all_metrics
from winnow.search.training.own_metric import own_metric
from winnow.search.training.precision import autocast, full_precision, image_format
from winnow.search.training.views import with_views
from winnow.spaces import schema
from winnow.spaces.epoch_figures import METRICS, OWN_METRIC

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class Evaluation:
    """Mean loss (without label smoothing), metrics by name (`validation_accuracy`, ...), and softmax outputs float32 [N, K]."""

    loss: float
    metrics: dict[str, float | None]
    probabilities: np.ndarray

    @property
    def accuracy(self) -> float:
        """Fraction of images that are classified correctly."""
        accuracy = self.metrics["validation_accuracy"]
        assert accuracy is not None
        return accuracy


def evaluate(
    config: schema.Config,
    weights: dict[str, torch.Tensor],
    data: DeviceData,
    images: np.ndarray,
    labels: np.ndarray,
) -> Evaluation:
    """Test the weights of a network on images.

    Everything is computed in float32, whatever the precision of the training, so that `load_winner` and `winnow predict` agree with it.

    Args:
        config: The config of the network.
        weights: Its parameters and buffers by name.
        data: The data whose normalization and device are used.
        images: uint8 [N, H, W, C].
        labels: True classes, int64 [N].
    """
    device = data.train.device
    model = models.build(config.model, data.image_shape, data.num_classes).to(device)
    model.to(memory_format=image_format(model))
    model.load_state_dict(weights)
    with full_precision(device):
        logits, truth = predict(
            with_views(model, config.test_flip, config.test_shift), data, data.place(images, labels), "float32"
        )
    loss, metrics = score(logits, truth, config)
    return Evaluation(loss, metrics, logits.softmax(1).cpu().numpy())


def predict(
    model: nn.Module, data: DeviceData, part: Labelled, precision: str, images_at_once: int = EVALUATION_BATCH
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the outputs of a network for images; leaves the network in evaluation mode.

    Args:
        model: The network.
        data: The data that normalizes the images.
        part: The images.
        precision: A value of `config.precision`.
        images_at_once: Images per batch. Default: 256.

    Returns:
        (logits float32 [N, K], labels int64 [N]), in the order of the images.
    """
    device = part.device
    model.eval()
    outputs: list[torch.Tensor] = []
    labels: list[torch.Tensor] = []
    with torch.inference_mode(), autocast(precision, device, model):
        for images, truth in data.chunks(part, images_at_once, image_format(model)):
            outputs.extend(model(batch).float() for batch in images.split(images_at_once))
            labels.append(truth)
            beat()
    return torch.cat(outputs), torch.cat(labels)


def score(logits: torch.Tensor, labels: torch.Tensor, config: schema.Config) -> tuple[float, dict[str, float | None]]:
    """Return the mean loss and the metrics of a network's outputs.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
        config: The config of the network; its loss is measured, without label smoothing.

    Returns:
        The loss, and every metric of `winnow.spaces.epoch_figures.METRICS` by name; None if it is not defined.
    """
    loss = build_evaluation_loss(config.loss)(logits, labels)
    scores = all_metrics(logits, labels)
    if config.own_metric is not None:
        scores[OWN_METRIC] = own_metric(config.own_metric, logits, labels)
    return loss.item(), {
        figure.name: value if (value := scores.get(figure.name)) is not None and math.isfinite(value) else None
        for figure in METRICS
    }
