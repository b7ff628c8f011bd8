"""Lists the figures of one epoch. Training, search, trackers and reports all use this list.

A new validation metric is one entry here, whose `metric` names the function that computes it. It is then computed after each
epoch, written to `epochs.jsonl`, compared by `winnow verify`, and shown as a column of the tables.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class EpochFigure:
    """One figure of a finished epoch.

    Attributes:
        name: Key in `epochs.jsonl` and column in the tables.
        kind: Type; a key of `winnow.reports.schemas.KINDS`.
        meaning: Description for the reference pages.
        unit: Unit; empty for a pure number.
        null: When the figure is null; None if it never is.
        reproducible: Whether the same seed gives the same value on the same machine. `winnow verify` compares these figures.
        drawn: Whether trackers plot it.
        better: Whether low or high values are good; None if the figure does not measure the quality of the network.
        column: Whether it is a column of the table `epochs`; other figures only control the search.
        metric: For a figure of the validation images, `module:function` of the arrays (labels int64 [N], probabilities float64
            [N, K]) that returns a number; NaN if the metric is not defined. It is imported when the first epoch ends. None if
            the training loop computes the figure or the config names the function (`OWN_METRIC`).
        least_classes: Smallest number of classes with which the figure differs between networks.
    """

    name: str
    kind: Literal["int", "float", "bool"]
    meaning: str
    unit: str = ""
    null: str | None = None
    reproducible: bool = False
    drawn: bool = False
    better: Literal["low", "high"] | None = None
    column: bool = True
    metric: str | None = None
    least_classes: int = 2


_NOT_FINITE = "not finite"
_NOT_RECORDED = "not recorded"
_NO_VALIDATION = "retraining (validation images are trained on)"

_UNDEFINED = f"{_NO_VALIDATION}, or a single class in the validation images"


def _metric(
    name: str,
    meaning: str,
    better: Literal["low", "high"] = "high",
    null: str = _NO_VALIDATION,
    least_classes: int = 2,
) -> EpochFigure:
    """Return a figure in [0, 1] of the validation images after the epoch, computed by the function of this name."""
    return EpochFigure(
        f"validation_{name}",
        "float",
        meaning,
        "fraction",
        null,
        reproducible=True,
        drawn=True,
        better=better,
        metric=f"winnow.search.training.metrics:{name}",
        least_classes=least_classes,
    )


EPOCH_FIGURES: tuple[EpochFigure, ...] = (
    EpochFigure("epoch", "int", "number of the epoch, from 1", "epochs"),
    EpochFigure(
        "train_loss",
        "float",
        "training loss, mean over the epoch",
        "",
        _NOT_FINITE,
        reproducible=True,
        drawn=True,
        better="low",
    ),
    EpochFigure(
        "train_accuracy",
        "float",
        "training accuracy, mean over the epoch; of a mixed image each label counts by its share",
        "fraction",
        _NOT_FINITE,
        reproducible=True,
        drawn=True,
        better="high",
    ),
    EpochFigure(
        "validation_loss",
        "float",
        "loss after the epoch",
        "",
        _NO_VALIDATION,
        reproducible=True,
        drawn=True,
        better="low",
    ),
    EpochFigure(
        "validation_accuracy",
        "float",
        "accuracy after the epoch",
        "fraction",
        _NO_VALIDATION,
        reproducible=True,
        drawn=True,
        better="high",
        metric="winnow.search.training.metrics:accuracy",
    ),
    _metric("balanced_accuracy", "balanced accuracy: mean recall over the classes"),
    _metric("macro_f1", "macro F1: mean F1 score over the classes"),
    _metric(
        "top5_accuracy",
        "top-5 accuracy: fraction of the images whose class is among the five most probable; 1 with five classes or fewer",
        least_classes=6,
    ),
    _metric("auroc", "area under the ROC curve, one class against the rest, mean over the classes", null=_UNDEFINED),
    _metric("calibration_error", "expected calibration error over 15 bins of the confidence", "low"),
    EpochFigure(
        "validation_own_metric",
        "float",
        "value of the function that `own_metric` names; higher is better",
        "",
        f"{_NO_VALIDATION}, or no `own_metric`",
        True,
        True,
        "high",
    ),
    EpochFigure(
        "lr", "float", "learning rate at the end of the epoch", "", _NOT_RECORDED, reproducible=True, drawn=True
    ),
    EpochFigure("wall_seconds", "float", "time of the epoch, validation included", "seconds", _NOT_RECORDED),
    EpochFigure("images_per_second", "float", "training images per second", "images/s", _NOT_RECORDED, drawn=True),
    EpochFigure("diverged", "bool", "whether a loss was not finite", column=False),
    EpochFigure("last", "bool", "whether this is the last epoch, by count, early stopping or divergence", column=False),
    EpochFigure("weights_epoch", "int", "the epoch whose weights are kept so far", "epochs", column=False),
)

OWN_METRIC = "validation_own_metric"
BUILT_IN_METRICS = tuple(figure for figure in EPOCH_FIGURES if figure.metric is not None)
METRICS = tuple(figure for figure in EPOCH_FIGURES if figure.metric is not None or figure.name == OWN_METRIC)
"""Figures that are computed from the network's predictions on the validation images."""
OBJECTIVES = ("validation_loss", *(figure.name for figure in METRICS))
"""Figures by which trials can be ranked."""
QUALITY = tuple(figure for figure in EPOCH_FIGURES if figure.better is not None)
"""Figures that measure the quality of the network."""


def load_metric(figure: EpochFigure) -> Callable[[Any, Any], float]:
    """Import the function that computes a figure of `BUILT_IN_METRICS`."""
    assert figure.metric is not None
    module, function = figure.metric.split(":")
    computed: Callable[[Any, Any], float] = getattr(importlib.import_module(module), function)
    return computed


BETTER = {figure.name: figure.better for figure in QUALITY}
LEAST_CLASSES = {figure.name: figure.least_classes for figure in QUALITY}
"""The smallest number of classes with which each figure differs between networks: with five, every network has a top-5 accuracy of 1."""


def is_maximized(objective: str) -> bool:
    """Return whether high values of an objective are good.

    Args:
        objective: Its column in the table `trials`: a metric or a cost.
    """
    return BETTER.get(objective) == "high"


def is_cost(objective: str) -> bool:
    """Return whether an objective is a cost of the network, such as `num_parameters`, which is minimized and has no value for each epoch.

    Args:
        objective: Its column in the table `trials`: a metric or a cost.
    """
    return objective not in BETTER


def tells_apart(metric: str, num_classes: int | None) -> bool:
    """Return whether networks can differ in a metric. With five classes, every network has a top-5 accuracy of 1.

    Args:
        metric: A name of `QUALITY`.
        num_classes: Number of classes; None or 0 if it is not recorded.
    """
    return not num_classes or num_classes >= LEAST_CLASSES[metric]


def to_minimize(metric: str, values: Mapping[str, float | None]) -> float:
    """Return the value of an objective such that lower is better: negated if high values are good, infinity if it is null.

    Args:
        metric: Name of the objective.
        values: Values by name, including that of the objective.
    """
    value = values[metric]
    if value is None:
        return math.inf
    return -value if is_maximized(metric) else value


def weights_rules() -> dict[str, str]:
    """Return the rules that choose the epoch whose weights are kept, and the metric of each."""
    words = {"low": "lowest", "high": "highest"}
    return {f"{words[BETTER[name] or 'low']}_{name}": name for name in OBJECTIVES}


def kept_values(rule: str, metric: str, epochs: Iterable[Mapping[str, Any]]) -> dict[int, float]:
    """Return what a trial is worth after each of its epochs: the metric of the weights kept so far.

    Args:
        rule: The config's rule for the weights to keep: `last` or a key of `weights_rules`.
        metric: Name of the metric.
        epochs: The figures of each epoch by name, from the first epoch on; None for those that were not finite.

    Returns:
        Values by epoch, without those that are None.
    """
    chosen_by = weights_rules().get(rule)
    best, kept, values = math.inf, None, {}
    for figures in epochs:
        worth = math.inf if chosen_by is None else to_minimize(chosen_by, figures)
        if worth < best:
            best, kept = worth, figures
        value = (kept or figures)[metric]
        if value is not None:
            values[figures["epoch"]] = value
    return values


def continued(values: Mapping[int, float], epochs: Iterable[int], completed: bool) -> dict[int, float]:
    """Return what a trial is worth after some epochs, among them those that a completed training did not need.

    A training that has completed early, by its own early stopping for example, keeps its last value: its weights do not change any more.

    Args:
        values: The values of the kept weights by epoch, from `kept_values`.
        epochs: The epochs that are asked for.
        completed: Whether the training has completed.

    Returns:
        Values by epoch, without epochs that have none.
    """
    known = {epoch: values[epoch] for epoch in epochs if epoch in values}
    if not (completed and values):
        return known
    end = max(values)
    return known | {epoch: values[end] for epoch in epochs if epoch > end}


def is_share(metric: str) -> bool:
    """Return whether a metric is a fraction in [0, 1], which is shown in percent."""
    return any(figure.name == metric and figure.unit == "fraction" for figure in QUALITY)


def in_words(metric: str) -> str:
    """Return the name of a metric in words, such as `validation macro F1` for `validation_macro_f1`."""
    return metric.replace("_", " ").replace("f1", "F1").replace("auroc", "AUROC")


def name_on_test_images(name: str) -> str:
    """Return the name of a metric on the test images, such as `test_accuracy` for `validation_accuracy`."""
    return name.replace("validation_", "test_")


TEST_METRICS = tuple(name_on_test_images(figure.name) for figure in METRICS if figure.name != "validation_accuracy")
"""The names of all metrics on the test images besides the accuracy."""


def name_on_validation_images(name: str) -> str:
    """Return the name of a metric on the validation images, such as `validation_accuracy` for `test_accuracy`."""
    return name.replace("test_", "validation_")


def curve_of(values: Mapping[int, float]) -> list[float]:
    """Return the values after epochs 1, 2, ..., up to the first epoch that was not recorded.

    Args:
        values: Values of a trial by epoch.
    """
    return [values[epoch] for epoch in itertools.takewhile(values.__contains__, itertools.count(1))]
