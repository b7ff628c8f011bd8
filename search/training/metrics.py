"""Metrics of a network's outputs: functions of (labels int64 [N], probabilities float64 [N, K]) that `EPOCH_FIGURES` names.

They are scikit-learn's. Each number agrees with what a reader computes from the predictions with the same library.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn import config_context
from sklearn.calibration import calibration_curve
from sklearn.metrics import accuracy_score, f1_score, recall_score, roc_auc_score, top_k_accuracy_score

from winnow.spaces.epoch_figures import BUILT_IN_METRICS, load_metric

Array = np.ndarray


def accuracy(labels: Array, probabilities: Array) -> float:
    """Share of images whose most probable class is the true one.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].

    Returns:
        A number in [0, 1].
    """
    return float(accuracy_score(labels, probabilities.argmax(1)))


def balanced_accuracy(labels: Array, probabilities: Array) -> float:
    """Mean recall over the classes that have images.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].

    Returns:
        A number in [0, 1].
    """
    return float(recall_score(labels, probabilities.argmax(1), labels=np.unique(labels), average="macro"))


def macro_f1(labels: Array, probabilities: Array) -> float:
    """Mean F1 score over the classes that have images or are predicted.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].

    Returns:
        A number in [0, 1].
    """
    return float(f1_score(labels, probabilities.argmax(1), average="macro"))


def top5_accuracy(labels: Array, probabilities: Array) -> float:
    """Share of images whose true class is among the five most probable; 1 for five classes or fewer.

    Of classes with equal probabilities, the first are taken, as by `accuracy`.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].

    Returns:
        A number in [0, 1].
    """
    num_classes = probabilities.shape[1]
    if num_classes <= 5:
        return 1.0
    # scikit-learn takes the last of equal scores, so the classes are given in reverse order.
    reverse = num_classes - 1 - labels
    return float(top_k_accuracy_score(reverse, probabilities[:, ::-1], k=5, labels=np.arange(num_classes)))


def auroc(labels: Array, probabilities: Array) -> float:
    """Mean over the classes of the area under the ROC curve of each class against the rest.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].

    Returns:
        A number in [0, 1]; NaN if all images are of one class or a probability is not finite.
    """
    present = np.unique(labels)
    if len(present) < 2 or not np.isfinite(probabilities).all():
        return float("nan")
    return float(roc_auc_score(labels[:, None] == present, probabilities[:, present], average="macro"))


def calibration_error(labels: Array, probabilities: Array, num_bins: int = 15) -> float:
    """Expected calibration error (Guo et al., 2017): mean difference of accuracy and confidence over bins of the confidence.

    Args:
        labels: True classes, int64 [N].
        probabilities: float64 [N, K].
        num_bins: Number of equally wide bins in [0, 1]. Default: 15.

    Returns:
        A number in [0, 1]; NaN if a probability is not finite.
    """
    if not np.isfinite(probabilities).all():
        return float("nan")
    confidence = probabilities.max(1).clip(0, 1)
    accuracies, confidences = calibration_curve(
        labels == probabilities.argmax(1), confidence, n_bins=num_bins, pos_label=True
    )
    edges = np.linspace(0, 1, num_bins + 1)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence), minlength=num_bins)
    return float(np.abs(accuracies - confidences) @ counts[counts > 0] / len(labels))


def all_metrics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Return every metric of `winnow.spaces.epoch_figures.BUILT_IN_METRICS` by name.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
    """
    probabilities = logits.cpu().double().softmax(1).numpy()
    true = labels.cpu().numpy()
    with config_context(skip_parameter_validation=True, assume_finite=True):  # a third of the time for few images
        return {figure.name: float(load_metric(figure)(true, probabilities)) for figure in BUILT_IN_METRICS}
