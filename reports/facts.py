"""Computes facts that decide what the values of a run can be compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from winnow.spaces.epoch_figures import METRICS, OWN_METRIC, name_on_test_images, tells_apart

if TYPE_CHECKING:
    from winnow.reports.run_data import RunFacts


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
    counts = _images_by_class(run, split)
    if counts:
        return float(max(counts) / sum(counts))
    share = _summary(run).get("majority_share") if split == "test" else None
    return None if share is None else float(share)


def _summary(run: RunFacts) -> Mapping[str, Any]:
    return (run.study.get("data") or {}).get("summary") or {}


def _images_by_class(run: RunFacts, split: str) -> list[int]:
    """Return the number of images of each class in a split; empty if it is not recorded or the split has no images."""
    counts = ((_summary(run).get("splits") or {}).get(split) or {}).get("by_class") or []
    return list(counts) if sum(counts) else []


def gives_one_class(run: RunFacts, trial: Mapping[str, Any]) -> bool:
    """Return whether the network of a trial gives every validation image the same class, as its recorded metrics tell.

    Such a network is right about one class alone. Its accuracy is the share of that class, its balanced accuracy one class of all,
    and its macro F1 the lowest with this accuracy. Accuracy and balanced accuracy alone would not tell: with classes of equal size, a
    network that guesses may have the same ones.

    Args:
        run: The run, which records the number of validation images of each class.
        trial: A row of `trials`.

    Returns:
        False if a metric or these numbers are not recorded.
    """
    measured = [trial[f"validation_{name}"] for name in ("accuracy", "balanced_accuracy", "macro_f1")]
    counts = [count for count in _images_by_class(run, "validation") if count]
    if len(counts) < 2 or None in measured:
        return False
    total, num_classes = sum(counts), len(counts)
    for count in set(counts):
        share = count / total
        expected = (share, 1 / num_classes, 2 * share / (1 + share) / num_classes)
        if all(math.isclose(*pair, rel_tol=1e-9) for pair in zip(measured, expected, strict=True)):
            return True
    return False


def measure(run: RunFacts, figure: str) -> Any:
    """Return what decides the value of a figure besides the network and the images; None if nothing does.

    Args:
        run: The run.
        figure: Name of an objective.

    Returns:
        The custom metric as the space names it, where a mapping with no key but `name` is the same as the bare name; or the kind of
        the loss in words.
    """
    if figure == OWN_METRIC:
        own_metric = run.study["space"].get("own_metric")
        is_bare = isinstance(own_metric, dict) and own_metric.keys() == {"name"}
        return own_metric["name"] if is_bare else own_metric
    if figure != "validation_loss":
        return None
    from winnow.spaces.schema import measured_loss

    return str(measured_loss(run.space.example().loss))


def keep_earlier_weights(trials: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether any trial may keep the weights of an earlier epoch than its last one, by `weights` of its config.

    Args:
        trials: Rows of `trials`.
    """
    # Most configs say in their text that they keep the last weights; to parse all of a long search would take seconds.
    configs = {row["config"] for row in trials if row["config"] and '"weights": "last"' not in row["config"]}
    return any(json.loads(config).get("weights", "last") != "last" for config in configs)


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


def have_one_kind_of_loss(rows: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the test losses of configs can stand in one column: all are of the same kind.

    Args:
        rows: Rows of `winners`. Those without a test loss do not count.
    """
    configs = [json.loads(row["config"]) or {} for row in rows if row["test_loss"] is not None]
    if all(config.get("loss") == configs[0].get("loss") for config in configs):
        return True
    from winnow.spaces.schema import measured_loss_of

    return all(measured_loss_of(config) == measured_loss_of(configs[0]) for config in configs)


VIEWS = ("test_flip", "test_shift")
"""The config keys that say over which views of each test image the outputs are averaged. Validation uses the image alone."""


def views_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `VIEWS` that have an effect in the config of a row of `winners`, with their values."""
    config = json.loads(row["config"]) or {}
    return {key: config[key] for key in VIEWS if config.get(key)}


def has_cross_entropy(row: Mapping[str, Any]) -> bool:
    """Return whether the reported loss of a config is cross-entropy, which can be computed from the recorded probabilities.

    Args:
        row: A row of `winners`.
    """
    from winnow.spaces.schema import measured_loss_of

    return measured_loss_of(json.loads(row["config"]) or {}).name == "cross_entropy"
