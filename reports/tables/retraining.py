"""Creates the rows of retraining: the mean and 95 % interval of each config, its gain over the baseline, and its gap to the search."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import are_comparable, largest_class
from winnow.reports.tables.answers import Answers, load_answers
from winnow.reports.tables.candidates import num_incomplete_repeats
from winnow.reports.tables.contributions import (
    NEED_PROBABILITIES,
    contributions,
    difference_over_both,
    has_rare_class,
    interval_over_both,
)
from winnow.reports.tables.intervals import Interval, seeds_interval
from winnow.reports.tables.trials import trial_rows, where_trained
from winnow.reports.values import finite, time_of
from winnow.spaces.epoch_figures import (
    OWN_METRIC,
    TEST_METRICS,
    is_maximized,
    name_on_test_images,
    name_on_validation_images,
)
from winnow.spaces.trial_status import TrialStatus
from winnow.spaces.winners import mean_of_repeats

if TYPE_CHECKING:
    import numpy as np

    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]
Tested = tuple[float | None, Answers | None]
MAX_ROUNDING = 0.005
"""Largest difference between a metric and the mean of its contributions that counts as rounding; relative for metrics above 1."""


def winner_rows(run: RunRecords) -> list[Row]:
    """Return one row per retrained config without the parameter columns: winners by rank, the baseline last."""
    return run.once("winner_rows", lambda: _winner_rows(run))


def _winner_rows(run: RunRecords) -> list[Row]:
    groups = retrain_groups(run)
    trials = {row["trial"]: row for row in trial_rows(run)} if groups else {}
    tested = name_on_test_images(run.objective)
    answers = [load_answers(run.path, lines, tested in NEED_PROBABILITIES) for lines in groups]
    rows = [
        _winner_row(run, lines, [trials[number] for number in _repeats(lines[0]) if number in trials], each)
        | {"num_incomplete_repeats": num_incomplete_repeats(run, list(trials.values()), lines[0]["trial"])}
        for lines, each in zip(groups, answers, strict=True)
    ]
    baseline = next((place for place, row in enumerate(rows) if row["baseline"]), None)
    for row, each in zip(rows, answers, strict=True):
        gains: dict[str, Interval] = {}
        if baseline is not None and not row["baseline"]:
            gains = {
                metric: metric_gain(metric, (row[metric], each), (rows[baseline][metric], answers[baseline]))
                for metric in ("test_accuracy", tested)
                if metric != tested or are_comparable(run, row, rows[baseline])
            }
        unknown = Interval(None, None, None)
        for name, metric in (("gain", "test_accuracy"), ("objective_gain", tested)):
            gain = gains.get(metric, unknown)
            row |= {name: gain.mean, f"{name}_low": gain.low, f"{name}_high": gain.high}
    return rows


def metric_gain(metric: str, first: Tested, second: Tested) -> Interval:
    """Return how much better the first config is by a metric on the test images, with its 95 % interval.

    Args:
        metric: A metric on the test images, such as `test_accuracy`.
        first: Mean of the metric over the seeds, and the predictions of the networks, each None if unknown.
        second: The same values of the config to compare with.

    Returns:
        The difference, positive if the first is better; None if a value is missing. It has no interval if either has fewer than two
        seeds, if predictions are missing, if the two were tested on different images, if `has_rare_class`, or if the metric is a
        custom function.
    """
    (mean, answers), (other_mean, other_answers) = first, second
    if mean is None or other_mean is None:
        return Interval(None, None, None)
    sign = 1 if is_maximized(name_on_validation_images(metric)) else -1
    gain = sign * (mean - other_mean)
    if answers is None or other_answers is None or not answers.same_images(other_answers):
        return Interval(gain, None, None)
    values, others = (_contributions(metric, *each) for each in ((answers, mean), (other_answers, other_mean)))
    if values is None or others is None or has_rare_class(metric, answers):
        return Interval(gain, None, None)
    _, low, high = difference_over_both(metric, sign * values, sign * others)
    return Interval(gain, low, high)


def metric_interval(metric: str, values: Sequence[float], answers: Answers | None) -> tuple[Interval, int | None]:
    """Return the mean of a metric on the test images over the seeds with its 95 % interval, and the number of images that it covers.

    Args:
        metric: A metric on the test images, such as `test_accuracy`.
        values: The metric of each seed that completed.
        answers: The predictions of these networks; None if they are unknown.

    Returns:
        The mean and its interval over seeds and test images, and the number of these images. The interval is over seeds alone and
        the number is None without predictions, if these do not give the metric, or if the metric is a custom function. There is no
        interval if `has_rare_class`.
    """
    bounds = {"test_loss": (0.0, math.inf), name_on_test_images(OWN_METRIC): (-math.inf, math.inf)}
    over_seeds = seeds_interval(values, bounds.get(metric, (0.0, 1.0)))
    if answers is None or over_seeds.mean is None:
        return over_seeds, None
    by_image = _contributions(metric, answers, over_seeds.mean)
    if by_image is None:
        return over_seeds, None
    both = interval_over_both(metric, by_image, answers)
    return Interval(over_seeds.mean, both.low, both.high), len(answers.true)


def _contributions(metric: str, answers: Answers, mean: float) -> np.ndarray | None:
    """Return the contributions of the images, float64 [S, N], if their mean equals the measured metric, otherwise None.

    They differ, for example, if the measured loss has label smoothing.
    """
    values = contributions(metric, answers)
    is_same = values is not None and abs(mean - values.mean()) <= MAX_ROUNDING * max(1.0, abs(mean))  # False for NaN
    return values if is_same else None


def retrain_groups(run: RunRecords) -> list[list[Row]]:
    """Return the retrain lines of each config: winners by rank, the baseline last; seeds ascending."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in sorted(run.retrain_lines, key=lambda line: line["seed"]):
        groups[bool(line["baseline"]), line.get("rank") or 0, line["trial"]].append(line)
    return [lines for _, lines in sorted(groups.items())]


def _repeats(line: Row) -> list[int]:
    """Return the numbers of all trials with the config of a retrain line."""
    return list(line.get("repeats") or [line["trial"]])


def _winner_row(run: RunRecords, lines: list[Row], searched_trials: list[Row], answers: Answers | None) -> Row:
    first = lines[0]
    tested = name_on_test_images(run.objective)
    of_metric = {metric: _metric_values(lines, metric) for metric in ("test_accuracy", tested)}
    values = of_metric["test_accuracy"]
    by_metric = {metric: metric_interval(metric, known, answers) for metric, known in of_metric.items()}
    (mean, low, high), accuracy_images = by_metric["test_accuracy"]
    objective, objective_images = by_metric[tested]
    searched = finite(first.get("search_value"))
    search_accuracy = mean_of_repeats([trial["validation_accuracy"] for trial in searched_trials])
    return {
        "run": run.name,
        **identity(first),
        "num_seeds": len(values),
        "num_failed": len(lines) - len(values),
        "num_objective_seeds": len(of_metric[tested]),
        "num_repeats": len(_repeats(first)),
        "test_accuracy": mean,
        "test_accuracy_std": stdev(values) if len(values) > 1 else None,
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "num_test_images": accuracy_images,
        "largest_class": largest_class(run, "test"),
        "num_one_class": _num_one_class(lines, answers),
        **{key: _mean(lines, key) for key in ("test_loss", *TEST_METRICS, "train_accuracy", "wall_seconds")},
        "test_objective": objective.mean,
        "test_objective_low": objective.low,
        "test_objective_high": objective.high,
        "test_objective_images": objective_images,
        "search_objective": searched,
        "objective_gap": None if objective.mean is None or searched is None else searched - objective.mean,
        "search_accuracy": search_accuracy,
        "gap": None if mean is None or search_accuracy is None else search_accuracy - mean,
        **{key: _first_known(lines, key) for key in ("num_parameters", "multiply_adds")},
        "config": json.dumps(first.get("config")),
    }


def _num_one_class(lines: list[Row], answers: Answers | None) -> int | None:
    """Return the number of networks that predict the same class for every test image; None if it is not recorded."""
    known = [line["num_classes_answered"] for line in lines if "num_classes_answered" in line]
    if not known and answers is not None:
        known = [len(set(predicted.tolist())) for predicted in answers.predicted]
    return sum(num == 1 for num in known) if known else None


def _mean(lines: list[Row], key: str) -> float | None:
    values = [finite(line.get(key)) for line in lines if line["status"] == TrialStatus.COMPLETED]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _first_known(lines: list[Row], key: str) -> Any:
    """Return a fact that is the same for all seeds; only trainings that completed record it. None if none did."""
    return next((line[key] for line in lines if line.get(key) is not None), None)


def retrain_rows(run: RunRecords) -> list[Row]:
    """Return one row per retrained config and seed, in the order of `winner_rows`."""
    return [_retrain_row(run, line) for lines in retrain_groups(run) for line in lines]


def _retrain_row(run: RunRecords, line: Row) -> Row:
    numbers = ("test_accuracy", "test_loss", *TEST_METRICS, "train_accuracy", "train_loss", "wall_seconds")
    return {
        "run": run.name,
        **identity(line),
        "seed": line["seed"],
        "status": line["status"],
        **{key: finite(line.get(key)) for key in numbers},
        "num_epochs": line.get("epochs"),
        "weights_epoch": line.get("weights_epoch"),
        "time": time_of(line.get("time")),
        "keep_validation": line.get("keep_validation", False),
        "threads": line.get("threads"),
        "micro_batches": line.get("micro_batches", 1),
        **where_trained([line]),
        "weights": line.get("weights"),
        "error": line.get("error"),
    }


def identity(line: Row) -> Row:
    """Return what identifies the config of a retrain line: its rank, its trial (None if there is none), and whether it is the baseline."""
    trial = line["trial"]
    return {
        "rank": line.get("rank"),
        "trial": None if trial is None or trial < 0 else trial,
        "baseline": bool(line["baseline"]),
    }


def _metric_values(lines: Sequence[Row], metric: str) -> list[float]:
    """Return the finite values of a metric on the test images, of the trainings that completed.

    Args:
        lines: One line of `retrain.jsonl` per training.
        metric: Key of the metric, such as `test_accuracy`.
    """
    values = (finite(line.get(metric)) for line in lines if line["status"] == TrialStatus.COMPLETED)
    return [value for value in values if value is not None]
