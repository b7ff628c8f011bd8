"""Computes facts that decide what the values of a run can be compared with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from winnow.spaces.epoch_figures import LEAST_CLASSES, METRICS, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts


def tells_apart(metric: str, num_classes: int | None) -> bool:
    """Return whether networks can differ in a metric. With five classes, every network has a top-5 accuracy of 1.

    Args:
        metric: A name of `winnow.spaces.epoch_figures.QUALITY`.
        num_classes: Number of classes; None or 0 if it is not recorded.
    """
    return not num_classes or num_classes >= LEAST_CLASSES[metric]


def metrics_on_test_images(run: RunFacts) -> list[str]:
    """Return the names of the metrics on the test images in which networks can differ, beside the loss.

    Args:
        run: The run, which says how many classes there are.
    """
    num_classes = (run.study.get("data") or {}).get("num_classes")
    return [name_on_test_images(figure.name) for figure in METRICS if tells_apart(figure.name, num_classes)]


def largest_class(run: RunFacts, split: str) -> float | None:
    """Return the accuracy of always predicting the largest class of a split; None if it is not recorded.

    Args:
        run: The run.
        split: `train`, `validation` or `test`.
    """
    data = run.study.get("data") or {}
    summary = data.get("summary") or {}
    counts = ((summary.get("splits") or {}).get(split) or {}).get("by_class")
    if counts and sum(counts):
        return float(max(counts) / sum(counts))
    share = summary.get("majority_share") if split == "test" else None
    return None if share is None else float(share)


def are_comparable(run: RunFacts, row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether the objective of two configs can be compared by value. It cannot if it is the loss, and their losses differ in kind.

    Args:
        run: The run.
        row: A row of `winners`.
        other: Another row of `winners`, such as the baseline.
    """
    if run.objective != "validation_loss":
        return True
    configs = [json.loads(each["config"]) or {} for each in (row, other)]
    if configs[0].get("loss") == configs[1].get("loss"):
        return True
    from winnow.spaces.schema import measured_loss_of

    return measured_loss_of(configs[0]) == measured_loss_of(configs[1])


def has_cross_entropy(row: Mapping[str, Any]) -> bool:
    """Return whether the reported loss of a config is cross-entropy, which can be computed from the recorded probabilities.

    Args:
        row: A row of `winners`.
    """
    from winnow.spaces.schema import measured_loss_of

    return measured_loss_of(json.loads(row["config"]) or {}).name == "cross_entropy"
