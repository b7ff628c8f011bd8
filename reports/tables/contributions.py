"""Computes the contribution of each test image to a metric, so that any metric gets an interval over seeds and test images.

The mean of the contributions of a network is the metric. Their variance over the images, divided by the number of images, is the
variance of the metric over other test sets of the same size. For an accuracy, a contribution is 1 if the prediction is correct and 0
otherwise. For other metrics it is the metric plus its influence function (Hampel, 1974), which for the area under the ROC curve gives
the variance of DeLong et al. (1988). Where a metric is a mean over classes, deviations from the mean of a class of n images are scaled
by the square root of n / (n - 1), without which the variance of a rare class would be too small. Of a class with one image it would be 0,
so there is no interval if a class has fewer than `LEAST_OF_CLASS` images.

`python -m benchmarks.search_quality.metric_intervals` simulates coverage and false differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from winnow.reports.tables.intervals import Interval, difference_interval, mean_interval, share_interval

if TYPE_CHECKING:
    from winnow.reports.tables.answers import Answers

Array = np.ndarray
NUM_BINS = 15
"""Number of bins of the confidence, as in `winnow.search.training.metrics.calibration_error`."""


def contributions(metric: str, answers: Answers) -> Array | None:
    """Compute the contribution of each image to a metric.

    Args:
        metric: A metric on the test images, such as `test_macro_f1`.
        answers: The predictions of S networks for N images.

    Returns:
        float64 [S, N], whose mean over the images is the metric of each network; None if the metric is a custom function or
        needs probabilities that were not recorded.
    """
    compute = CONTRIBUTIONS.get(metric)
    rows = [] if compute is None else [compute(answers, seed) for seed in range(len(answers.predicted))]
    known = [row for row in rows if row is not None]
    return np.stack(known) if rows and len(known) == len(rows) else None


def effective_images(metric: str, answers: Answers) -> float:
    """Return the size of the test set on which an accuracy would be as uncertain as the metric is.

    A mean over K classes depends on the images of the rarest classes: K squared over the sum of 1 /
    (number of images of a class). With classes of equal size, and for other metrics, it is the
    number of images.

    Args:
        metric: Name of the metric, such as `test_balanced_accuracy`.
        answers: True and predicted classes of the test images.
    """
    if metric not in OVER_CLASSES:
        return float(len(answers.true))
    counts = np.bincount(answers.true)
    counts = counts[counts > 0]
    return float(len(counts) ** 2 / (1 / counts).sum())


def has_rare_class(metric: str, answers: Answers) -> bool:
    """Return whether a metric has no interval over the test images, because a class has fewer than `LEAST_OF_CLASS` of them.

    Args:
        metric: Name of the metric, such as `test_balanced_accuracy`.
        answers: True classes of the test images.
    """
    counts = np.bincount(answers.true)
    return metric in OVER_CLASSES and bool((counts[counts > 0] < LEAST_OF_CLASS).any())


def interval_over_both(metric: str, values: Array, answers: Answers) -> Interval:
    """Return the mean of a metric over the networks, with its 95 % interval over seeds and test images.

    The interval of the calibration error reaches down to that of the estimate without bias (see `unbiased_calibration_error`). There is
    none if `has_rare_class`.

    Args:
        metric: Name of the metric, such as `test_auroc`.
        values: The contributions of the images, float64 [S, N], from `contributions`.
        answers: The predictions from which they were computed.
    """
    if metric == "test_loss":
        return mean_interval(values)
    if has_rare_class(metric, answers):
        return Interval(float(values.mean()), None, None)
    interval = share_interval(values, effective_images(metric, answers), of_ranks=metric in OF_RANKS)
    if metric != "test_calibration_error" or interval.low is None:
        return interval
    unbiased = np.array([unbiased_calibration_error(answers, seed) for seed in range(len(values))])
    lower = share_interval(values - values.mean(1, keepdims=True) + unbiased[:, None]).low
    return interval if lower is None else interval._replace(low=min(interval.low, lower))


def difference_over_both(metric: str, values: Array, others: Array) -> Interval:
    """Return the difference of two configs in a metric, with its 95 % interval over seeds and test images, paired by image.

    Args:
        metric: Name of the metric, such as `test_auroc`.
        values: The contributions of the images of the first config, float64 [S, N], from `contributions`.
        others: Those of the second config, float64 [T, N], for the same images in the same order.
    """
    most = math.inf if metric == "test_loss" else 1.0
    return difference_interval(values, others, most, step=1.0 if metric in COUNTED else 0.0)


def unbiased_calibration_error(answers: Answers, seed: int) -> float:
    """Estimate the calibration error of a network without the part that noise adds to its absolute values.

    In each bin of the confidence, the variance of the sum is subtracted from its square, which may not fall below 0.

    Args:
        answers: Predictions with their confidence.
        seed: Index of the network.
    """
    surplus, bins = calibration_surplus(answers, seed)
    images, sums, squares = (np.bincount(bins, weights, NUM_BINS) for weights in (None, surplus, surplus**2))
    several = np.maximum(images, 2)
    variance = (squares - sums**2 / np.maximum(images, 1)) * several / (several - 1)
    return float(np.sqrt(np.maximum(sums**2 - variance, 0)).sum()) / len(surplus)


def calibration_surplus(answers: Answers, seed: int) -> tuple[Array, Array]:
    """Return whether each prediction is correct minus its confidence, float64 [N], and the bin of the confidence, int64 [N].

    Args:
        answers: Predictions with their confidence.
        seed: Index of the network.
    """
    assert answers.confidence is not None
    confidence = answers.confidence[seed].astype(np.float64)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(np.int64), 1, NUM_BINS) - 1
    return _accuracy(answers, seed) - confidence, bins


def _accuracy(answers: Answers, seed: int) -> Array:
    return (answers.predicted[seed] == answers.true).astype(np.float64)


def _top5_accuracy(answers: Answers, seed: int) -> Array | None:
    if answers.probabilities is None:
        return None
    scores = answers.probabilities[seed]
    highest = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    return (highest == answers.true[:, None]).any(1).astype(np.float64)


def _balanced_accuracy(answers: Answers, seed: int) -> Array:
    correct = _accuracy(answers, seed)
    counts = np.bincount(answers.true)
    recalls = np.bincount(answers.true, weights=correct) / np.maximum(counts, 1)
    present = counts > 0
    weights = len(correct) / (present.sum() * np.maximum(counts, 1))
    values = recalls[present].mean() + weights[answers.true] * (correct - recalls[answers.true])
    return _without_bias(values, answers.true)


def _macro_f1(answers: Answers, seed: int) -> Array:
    true, predicted = answers.true, answers.predicted[seed]
    num_classes = int(max(true.max(), predicted.max())) + 1
    right = np.bincount(true[true == predicted], minlength=num_classes).astype(np.float64)
    total = np.bincount(true, minlength=num_classes) + np.bincount(predicted, minlength=num_classes)
    present = total > 0
    total = np.maximum(total, 1)
    f1 = 2 * right / total
    # One more image of class t that is predicted as p changes the F1 of both classes.
    change = np.where(true == predicted, 2 / total[true], 0.0) - (f1 / total)[true] - (f1 / total)[predicted]
    return _without_bias(f1[present].mean() + len(true) / present.sum() * change, true)


def _without_bias(values: Array, true: Array) -> Array:
    """Scale the deviations of the images from the mean of their class, whose variance is then that of other images of the class.

    Args:
        values: The contribution of each image, float64 [N].
        true: The true classes, int64 [N].
    """
    counts = np.bincount(true)
    means = np.bincount(true, weights=values) / np.maximum(counts, 1)
    scales = np.sqrt(counts / np.maximum(counts - 1, 1))
    return means[true] + scales[true] * (values - means[true])


def _auroc(answers: Answers, seed: int) -> Array | None:
    if answers.probabilities is None:
        return None
    scores = answers.probabilities[seed].astype(np.float64)
    num = len(answers.true)
    total, influence, classes = 0.0, np.zeros(num), 0
    for label in np.unique(answers.true):
        positive = answers.true == label
        if positive.all():
            continue
        above, below = np.sort(scores[positive, label]), np.sort(scores[~positive, label])
        share = np.empty(num)  # share of the images of the other side against which the image is ranked correctly
        share[positive] = _rank(below, scores[positive, label])
        share[~positive] = 1 - _rank(above, scores[~positive, label])
        area = share[positive].mean()
        influence += np.where(positive, num / positive.sum(), num / (~positive).sum()) * (share - area)
        total, classes = total + area, classes + 1
    return _without_bias((total + influence) / classes, answers.true) if classes else None


def _rank(ordered: Array, values: Array) -> Array:
    """Return the share of ascending numbers that lies below each value. Equal numbers count half."""
    places = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return places / (2 * len(ordered))


def _calibration_error(answers: Answers, seed: int) -> Array | None:
    if answers.confidence is None:
        return None
    surplus, bins = calibration_surplus(answers, seed)
    return np.sign(np.bincount(bins, weights=surplus, minlength=NUM_BINS))[bins] * surplus


def _loss(answers: Answers, seed: int) -> Array | None:
    if answers.probability_true is None:
        return None
    return -np.log(np.maximum(answers.probability_true[seed].astype(np.float64), np.finfo(np.float32).tiny))


CONTRIBUTIONS: dict[str, Callable[[Answers, int], Array | None]] = {
    "test_loss": _loss,
    "test_accuracy": _accuracy,
    "test_balanced_accuracy": _balanced_accuracy,
    "test_macro_f1": _macro_f1,
    "test_top5_accuracy": _top5_accuracy,
    "test_auroc": _auroc,
    "test_calibration_error": _calibration_error,
}
LEAST_OF_CLASS = 4
"""Number of test images of a class from which a mean over classes has an interval: of fewer, their spread says too little."""
NEED_PROBABILITIES = ("test_top5_accuracy", "test_auroc")
"""The metrics that need the probabilities of all classes."""
COUNTED = ("test_accuracy", "test_top5_accuracy")
"""The metrics to which an image contributes 0 or 1."""
OF_RANKS = ("test_auroc",)
"""The metrics that depend on the order of the probabilities, not on right and wrong predictions."""
OVER_CLASSES = ("test_balanced_accuracy", "test_macro_f1", "test_auroc")
"""The metrics that are means over classes."""
