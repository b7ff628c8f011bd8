"""Creates the rows for each class of the test images: precision, recall and F1 of each retrained config."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from winnow.reports.reading.predictions import load_predictions
from winnow.reports.tables.retraining import identity, retrain_groups

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]


def class_rows(run: RunRecords) -> list[Row]:
    """Return one row per retrained config and class, with the means over the seeds; none for a config without predictions."""
    rows: list[Row] = []
    for lines in retrain_groups(run):
        loaded = [load_predictions(run.path, line["predictions"]) for line in lines if line.get("predictions")]
        seeds = [(arrays["true"], arrays["predicted"]) for arrays in loaded if arrays is not None]
        if seeds:
            about = {"run": run.name, **identity(lines[0])}
            rows += [about | row for row in scores_by_class(seeds, run.class_names)]
    return rows


def scores_by_class(seeds: Sequence[tuple[np.ndarray, np.ndarray]], names: Sequence[str]) -> list[Row]:
    """Return `class`, `class_name`, `support`, `precision`, `recall` and `f1` of each class.

    Args:
        seeds: True and predicted classes of the test images, int64 [N] each, for each network; the true ones are the same.
        names: Names of the classes. A class without a name gets its number.

    Returns:
        Means over the networks that have a value; None for a class without any.
    """
    num_classes = max(len(names), *(int(max(true.max(), predicted.max())) + 1 for true, predicted in seeds))
    scores = [class_scores(true, predicted, num_classes) for true, predicted in seeds]
    means = {key: _mean(np.stack([score[key] for score in scores])) for key in scores[0]}
    support = np.bincount(seeds[0][0], minlength=num_classes)
    return [
        {
            "class": k,
            "class_name": names[k] if k < len(names) else str(k),
            "support": int(support[k]),
            **{key: None if np.isnan(values[k]) else float(values[k]) for key, values in means.items()},
        }
        for k in range(num_classes)
    ]


def class_scores(true: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """Compute precision, recall and F1 of each class.

    Args:
        true: True classes, int64 [N].
        predicted: Predicted classes, int64 [N].
        num_classes: K, the number of classes.

    Returns:
        `precision`, `recall` and `f1`, float64 [K] each; NaN where they are not defined.
    """
    from sklearn.metrics import precision_recall_fscore_support  # takes seconds to import

    precision, recall, f1, _ = precision_recall_fscore_support(
        true, predicted, labels=np.arange(num_classes), zero_division=np.nan
    )
    return {"precision": precision, "recall": recall, "f1": f1}


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of values [S, K] over the seeds that have one; NaN for a class without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(0) / known.sum(0)
