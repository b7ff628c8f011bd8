"""Metrics of a network's outputs: functions of (logits float32 [N, K], labels int64 [N]) that `EPOCH_FIGURES` names."""

from __future__ import annotations

import torch

from winnow.spaces.epoch_figures import BUILT_IN_METRICS, load_metric


def accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of images whose highest logit is that of the true class.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].

    Returns:
        A scalar in [0, 1].
    """
    return (logits.argmax(1) == labels).double().mean()


def balanced_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean recall over the classes that have images.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].

    Returns:
        A scalar in [0, 1].
    """
    right, true, _ = _counts(logits, labels)
    return (right / true)[true > 0].mean()


def macro_f1(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean F1 score over the classes that have images or are predicted.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].

    Returns:
        A scalar in [0, 1].
    """
    right, true, predicted = _counts(logits, labels)
    return (2 * right / (true + predicted))[true + predicted > 0].mean()


def _counts(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return three counts of images per class [K]: classified correctly, of the class, and predicted as the class."""
    predictions, num_classes = logits.argmax(1), logits.shape[1]
    sets = (labels[predictions == labels], labels, predictions)
    right, true, predicted = (torch.bincount(each, minlength=num_classes).double() for each in sets)
    return right, true, predicted


def top5_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Share of images whose true class is among the five highest logits; 1 for five classes or fewer.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].

    Returns:
        A scalar in [0, 1].
    """
    highest = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return (highest == labels[:, None]).any(1).double().mean()


def auroc(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the classes of the area under the ROC curve of each class against the rest; NaN if all images are of one class.

    The area follows from the mean rank of the class's images (Mann and Whitney, 1947); equal probabilities share a rank.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].

    Returns:
        A scalar in [0, 1].
    """
    scores = logits.double().softmax(1).T.contiguous()  # [K, N]
    ordered = scores.sort(dim=1).values
    ranks = (torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True) + 1) / 2
    positive = torch.nn.functional.one_hot(labels, logits.shape[1]).T.double()
    num_positive = positive.sum(1)
    pairs = num_positive * (len(labels) - num_positive)
    areas = ((ranks * positive).sum(1) - num_positive * (num_positive + 1) / 2) / pairs
    return areas[pairs > 0].mean()


def calibration_error(logits: torch.Tensor, labels: torch.Tensor, num_bins: int = 15) -> torch.Tensor:
    """Expected calibration error (Guo et al., 2017): mean difference of accuracy and confidence over bins of the confidence.

    Args:
        logits: float [N, K].
        labels: True classes, int64 [N].
        num_bins: Number of equally wide bins in [0, 1]. Default: 15.

    Returns:
        A scalar in [0, 1].
    """
    confidence, predictions = logits.double().softmax(1).max(1)
    bins = (confidence * num_bins).ceil().long().clamp(1, num_bins) - 1
    surplus = (predictions == labels).double() - confidence
    return torch.zeros(num_bins, dtype=torch.float64, device=logits.device).index_add(
        0, bins, surplus
    ).abs().sum() / len(labels)


def all_metrics(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return every metric of `winnow.spaces.epoch_figures.BUILT_IN_METRICS` by name, as float64 scalars on the device of the logits.

    Args:
        logits: float32 [N, K].
        labels: int64 [N].
    """
    return {
        figure.name: torch.as_tensor(load_metric(figure)(logits, labels), dtype=torch.float64, device=logits.device)
        for figure in BUILT_IN_METRICS
    }
