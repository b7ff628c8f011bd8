"""Makes the rows of retraining: mean and 95 % interval over the seeds of each config, gain over the baseline, gap to the search."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from winnow.reports.tables.trials import finite, time_of, trial_rows

if TYPE_CHECKING:
    from winnow.reports.run_data import RunRecords

Row = dict[str, Any]

# Student's t at 0.975 for 1, 2, ... 30 degrees of freedom. `scipy.special.stdtrit` gives the same, but importing it takes
# as long as all the rest of `winnow show`.
# fmt: off
_T_975 = (
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139,
    2.200985, 2.178813, 2.160369, 2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963,
    2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529, 2.051831, 2.048407, 2.045230, 2.042272,
)
# fmt: on


def winner_rows(run: RunRecords, intervals_of_gain: bool = True) -> list[Row]:
    """One row per retrained config without the parameter columns: winners by rank, the baseline last.

    Without `intervals_of_gain`, gain_low and gain_high stay None and SciPy is not imported.
    """
    groups = retrain_groups(run)
    trials = {row["trial"]: row for row in trial_rows(run)} if groups else {}
    baseline = next((accuracies(lines) for lines in groups if lines[0]["baseline"]), [])
    rows = []
    for lines in groups:
        row = _winner_row(run, lines, trials.get(lines[0]["trial"]))
        others = [] if row["baseline"] else baseline
        gain, low, high = accuracy_difference(accuracies(lines), others, intervals_of_gain)
        rows.append(row | {"gain": gain, "gain_low": low, "gain_high": high})
    return rows


def retrain_groups(run: RunRecords) -> list[list[Row]]:
    """The retrain lines of each config: winners by rank, the baseline last; seeds ascending."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in sorted(run.retrain_lines, key=lambda line: line["seed"]):
        groups[bool(line["baseline"]), line.get("rank") or 0, line["trial"]].append(line)
    return [lines for _, lines in sorted(groups.items())]


def _winner_row(run: RunRecords, lines: list[Row], trial: Row | None) -> Row:
    first = lines[0]
    values = accuracies(lines)
    mean, low, high = accuracy_interval(values)
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
        **{key: _mean(lines, key) for key in ("test_loss", "train_accuracy", "wall_seconds")},
        "search_objective": finite(first.get("search_value")),
        "search_accuracy": search_accuracy,
        "gap": None if mean is None or search_accuracy is None else search_accuracy - mean,
        "num_parameters": first.get("num_parameters"),
        "multiply_adds": first.get("multiply_adds"),
        "config": json.dumps(first.get("config")),
    }


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
        "threads": line.get("threads"),
        "micro_batches": line.get("micro_batches", 1),
        "device": line.get("device"),
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


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean and 95 % interval of the mean (Student's t): (mean, low, high); no interval for one value, all None for none."""
    if not values:
        return None, None, None
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    half = t_975(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def accuracy_interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """`mean_interval` of accuracies, clipped to [0, 1]."""
    mean, low, high = mean_interval(values)
    return mean, None if low is None else max(0.0, low), None if high is None else min(1.0, high)


def difference_interval(
    a: Sequence[float], b: Sequence[float], interval: bool = True
) -> tuple[float | None, float | None, float | None]:
    """mean(a) - mean(b) and, if `interval`, its 95 % interval with unequal variances (Welch, 1947)."""
    if not a or not b:
        return None, None, None
    difference = fmean(a) - fmean(b)
    if not interval or len(a) < 2 or len(b) < 2:
        return difference, None, None
    va, vb = stdev(a) ** 2 / len(a), stdev(b) ** 2 / len(b)
    if va + vb == 0:
        return difference, difference, difference
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = t_975(freedom) * math.sqrt(va + vb)
    return difference, difference - half, difference + half


def accuracy_difference(
    a: Sequence[float], b: Sequence[float], interval: bool = True
) -> tuple[float | None, float | None, float | None]:
    """`difference_interval` of accuracies, clipped to [-1, 1]."""
    difference, low, high = difference_interval(a, b, interval)
    return difference, None if low is None else max(-1.0, low), None if high is None else min(1.0, high)


def t_975(freedom: float) -> float:
    """The 0.975 quantile of Student's t with `freedom` degrees of freedom."""
    if float(freedom).is_integer() and freedom <= len(_T_975):
        return _T_975[int(freedom) - 1]
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))
