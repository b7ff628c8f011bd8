"""Makes the rows of retraining: mean and 95 % interval of each config over seeds and test images, gain over the baseline, gap to the search."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from winnow.reports.facts import largest_class
from winnow.reports.tables.answers import Answers, answers_of
from winnow.reports.tables.intervals import Interval, accuracy_interval, difference_interval, seeds_interval
from winnow.reports.tables.trials import finite, time_of, trial_rows, where_trained
from winnow.spaces.epoch_figures import METRICS, name_on_test_images

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]
TEST_METRICS = [name_on_test_images(each.name) for each in METRICS if each.name != "validation_accuracy"]
Tested = tuple[float | None, Answers | None]


def winner_rows(run: RunRecords) -> list[Row]:
    """One row per retrained config without the parameter columns: winners by rank, the baseline last."""
    return run.once("winner_rows", lambda: _winner_rows(run))


def _winner_rows(run: RunRecords) -> list[Row]:
    groups = retrain_groups(run)
    trials = {row["trial"]: row for row in trial_rows(run)} if groups else {}
    answers = [answers_of(run.path, lines) for lines in groups]
    rows = [
        _winner_row(run, lines, trials.get(lines[0]["trial"]), each)
        for lines, each in zip(groups, answers, strict=True)
    ]
    baseline = next((place for place, row in enumerate(rows) if row["baseline"]), None)
    for row, each in zip(rows, answers, strict=True):
        gain, low, high = None, None, None
        if baseline is not None and not row["baseline"]:
            reference = rows[baseline]["test_accuracy"], answers[baseline]
            gain, low, high = accuracy_gain((row["test_accuracy"], each), reference)
        row |= {"gain": gain, "gain_low": low, "gain_high": high}
    return rows


def accuracy_gain(first: Tested, second: Tested) -> Interval:
    """Return how much higher the first test accuracy is, with its 95 % interval.

    Args:
        first: Mean test accuracy over the seeds, and the answers of the networks; None where there are none.
        second: The same of the config to compare with.

    Returns:
        The difference, None if an accuracy is missing. No ends if either has fewer than two seeds, if answers are missing,
        or if the two were tested on different images.
    """
    (mean, answers), (other_mean, other_answers) = first, second
    if mean is None or other_mean is None:
        return Interval(None, None, None)
    if answers is None or other_answers is None or not answers.same_images(other_answers):
        return Interval(mean - other_mean, None, None)
    _, low, high = difference_interval(answers.correct, other_answers.correct)
    return Interval(mean - other_mean, low, high)


def retrain_groups(run: RunRecords) -> list[list[Row]]:
    """The retrain lines of each config: winners by rank, the baseline last; seeds ascending."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in sorted(run.retrain_lines, key=lambda line: line["seed"]):
        groups[bool(line["baseline"]), line.get("rank") or 0, line["trial"]].append(line)
    return [lines for _, lines in sorted(groups.items())]


def _winner_row(run: RunRecords, lines: list[Row], trial: Row | None, answers: Answers | None) -> Row:
    first = lines[0]
    values = accuracies(lines)
    mean, low, high = seeds_interval(values)
    if answers is not None:
        _, low, high = accuracy_interval(answers.correct)
    search_accuracy = trial["validation_accuracy"] if trial else None
    return {
        "run": run.name,
        **identity(first),
        "num_seeds": len(values),
        "num_failed": len(lines) - len(values),
        "test_accuracy": mean,
        "test_accuracy_std": stdev(values) if len(values) > 1 else None,
        "test_accuracy_low": low,
        "test_accuracy_high": high,
        "num_test_images": None if answers is None else len(answers.true),
        "largest_class": largest_class(run, "test"),
        "num_one_class": _num_one_class(lines, answers),
        **{key: _mean(lines, key) for key in ("test_loss", *TEST_METRICS, "train_accuracy", "wall_seconds")},
        "search_objective": finite(first.get("search_value")),
        "search_accuracy": search_accuracy,
        "gap": None if mean is None or search_accuracy is None else search_accuracy - mean,
        "num_parameters": first.get("num_parameters"),
        "multiply_adds": first.get("multiply_adds"),
        "config": json.dumps(first.get("config")),
    }


def _num_one_class(lines: list[Row], answers: Answers | None) -> int | None:
    """Networks that give every test image the same class; None if neither the lines nor the predictions tell."""
    known = [line["num_classes_answered"] for line in lines if "num_classes_answered" in line]
    if not known and answers is not None:
        known = [len(set(predicted.tolist())) for predicted in answers.predicted]
    return sum(num == 1 for num in known) if known else None


def _mean(lines: list[Row], key: str) -> float | None:
    values = [finite(line.get(key)) for line in lines if line["status"] == "completed"]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def retrain_rows(run: RunRecords) -> list[Row]:
    """One row per retrained config and seed, in the order of `winner_rows`."""
    return [_retrain_row(run, line) for lines in retrain_groups(run) for line in lines]


def _retrain_row(run: RunRecords, line: Row) -> Row:
    numbers = ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "wall_seconds")
    return {
        "run": run.name,
        **identity(line),
        "seed": line["seed"],
        "status": line["status"],
        **{key: finite(line.get(key)) for key in numbers},
        "num_epochs": line.get("epochs"),
        "time": time_of(line.get("time")),
        "keep_validation": line.get("keep_validation", False),
        "threads": line.get("threads"),
        "micro_batches": line.get("micro_batches", 1),
        **where_trained([line]),
        "weights": line.get("weights"),
        "error": line.get("error"),
    }


def identity(line: Row) -> Row:
    """Identify the config of a retrain line: its rank, its trial (None if it was no trial), and whether it is the baseline."""
    trial = line["trial"]
    return {
        "rank": line.get("rank"),
        "trial": None if trial is None or trial < 0 else trial,
        "baseline": bool(line["baseline"]),
    }


def accuracies(lines: Sequence[Row]) -> list[float]:
    """The test accuracies of the trainings that completed."""
    values = (finite(line.get("test_accuracy")) for line in lines if line["status"] == "completed")
    return [value for value in values if value is not None]
