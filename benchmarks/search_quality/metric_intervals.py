"""Measures how often the report's intervals of metrics other than accuracy hold the truth, and how often equal configs are called different.

    python -m benchmarks.search_quality.metric_intervals [--repetitions 1000] [--metrics test_auroc] [--more]

Logits are sums of normal effects: of the image and class, of the config, of the seed, and of the network as a whole. Two
configs have equal populations, whose metrics are estimated from 40 test sets of 20,000 images. Prints a Markdown table and
writes benchmarks/results/metric_intervals.json, where the rows of other metrics and settings than the asked ones stay. About six minutes
on one core. With --more, it is further sizes and nearly perfect accuracies, and takes about as long again. Top-5 accuracy of five classes
is 1 by definition and left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from benchmarks import RESULTS
from benchmarks.search_quality.intervals import holds
from winnow.reports.tables.answers import Answers
from winnow.reports.tables.contributions import (
    CONTRIBUTIONS,
    contributions,
    difference_over_both,
    has_rare_class,
    interval_over_both,
)

Array = np.ndarray


@dataclass(frozen=True)
class Case:
    """`shares` of the classes, `base` the advantage of the true class, `network_sd` of whole networks; the other effects are fixed."""

    shares: tuple[float, ...]
    base: float
    network_sd: float
    image_sd: float = 1.0
    config_sd: float = 0.5
    seed_sd: float = 0.5


NEARLY_PERFECT = "ten equal classes, 99 % right"
CASES = {
    "ten equal classes": Case((0.1,) * 10, 3.0, 0.05),
    "five classes, 60 to 4 %": Case((0.6, 0.2, 0.1, 0.06, 0.04), 2.2, 0.1),
    NEARLY_PERFECT: Case((0.1,) * 10, 5.0, 0.05),
}
FIRST_CASES = tuple(name for name in CASES if name != NEARLY_PERFECT)
SIZES = ((100, 3), (360, 3), (360, 10), (2000, 3))
"""Test images and seeds of `FIRST_CASES`."""
SETTINGS = tuple((name, *size) for name in FIRST_CASES for size in SIZES)
"""Case, test images and seeds."""
MORE_SETTINGS = (
    *((name, *size) for name in FIRST_CASES for size in ((360, 5), (10_000, 3))),
    *((NEARLY_PERFECT, *size) for size in ((360, 3), (360, 10), (2000, 3))),
)


@dataclass(frozen=True)
class Shares:
    """The metric in the population, and shares of the repetitions in percent, the first two of those with an interval."""

    truth: float
    coverage: float
    false_difference: float
    no_interval: float


def simulate(
    case: Case,
    num_images: int,
    num_seeds: int,
    repetitions: int,
    random: np.random.Generator,
    metrics: Sequence[str] = tuple(CONTRIBUTIONS),
) -> dict[str, Shares]:
    """How the intervals of each metric did."""
    truth = truths(case, tuple(metrics))
    counts = {metric: np.zeros(3) for metric in metrics}
    for _ in range(repetitions):
        true, images = draw_images(case, num_images, random)
        first, second = (draw_answers(case, true, images, num_seeds, random) for _ in range(2))
        for metric, count in counts.items():
            values, others = contributions(metric, first), contributions(metric, second)
            assert values is not None
            assert others is not None
            if has_rare_class(metric, first):
                continue
            interval = interval_over_both(metric, values, first)
            difference = difference_over_both(metric, values, others)
            count += (holds(interval, truth[metric]), not holds(difference, 0.0), 1)
    return {metric: _shares(truth[metric], *count, repetitions) for metric, count in counts.items()}


def _shares(truth: float, held: float, different: float, num_known: float, repetitions: int) -> Shares:
    known = max(num_known, 1)
    return Shares(truth, 100 * held / known, 100 * different / known, 100 * (1 - num_known / repetitions))


@cache
def truths(case: Case, metrics: tuple[str, ...]) -> dict[str, float]:
    """The metrics in the population."""
    random = np.random.default_rng(0)
    values: dict[str, list[float]] = {metric: [] for metric in metrics}
    for _ in range(40):
        true, images = draw_images(case, 20_000, random)
        given = draw_answers(case, true, images, 2, random)
        for metric, found in values.items():
            by_image = contributions(metric, given)
            assert by_image is not None
            found.append(float(by_image.mean()))
    return {metric: float(np.mean(found)) for metric, found in values.items()}


def draw_images(case: Case, num: int, random: np.random.Generator) -> tuple[Array, Array]:
    """True classes [N], and the effects of images and classes on the logits [N, K]."""
    true = random.choice(len(case.shares), num, p=case.shares)
    return true, random.normal(0, case.image_sd, (num, len(case.shares)))


def draw_answers(case: Case, true: Array, images: Array, num_seeds: int, random: np.random.Generator) -> Answers:
    """The predictions of the networks of one config."""
    num, num_classes = images.shape
    places = np.arange(num)
    of_config = images + random.normal(0, case.config_sd, (num, num_classes)) + np.log(case.shares)
    probabilities = []
    for _ in range(num_seeds):
        logits = of_config + random.normal(0, case.seed_sd, (num, num_classes))
        logits += random.normal(0, case.network_sd, num_classes)
        logits[places, true] += case.base + random.normal(0, case.network_sd)
        powers = np.exp(logits - logits.max(1, keepdims=True))
        probabilities.append(powers / powers.sum(1, keepdims=True))
    predicted = np.stack([each.argmax(1) for each in probabilities])
    confidence = np.stack([each.max(1) for each in probabilities])
    return Answers(true, predicted, confidence, np.stack([each[places, true] for each in probabilities]), probabilities)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--metrics", nargs="+", choices=list(CONTRIBUTIONS), default=list(CONTRIBUTIONS))
    parser.add_argument("--more", action="store_true", help="further sizes, and nearly perfect accuracies")
    options = parser.parse_args()
    file = RESULTS / "metric_intervals.json"
    random = np.random.default_rng(0)
    settings = MORE_SETTINGS if options.more else SETTINGS
    again = {(*setting, metric) for setting in settings for metric in options.metrics}
    rows = [
        row
        for row in json.loads(file.read_text())["rows"]
        if (row["case"], row["images"], row["seeds"], row["metric"]) not in again
    ]
    print("| classes | images | seeds | metric | truth | coverage | equal configs called different | no interval |")
    print("|---|---|---|---|---|---|---|---|")
    for name, num_images, num_seeds in settings:
        case = CASES[name]
        metrics = [each for each in options.metrics if each != "test_top5_accuracy" or len(case.shares) > 5]
        about = {"case": name, "images": num_images, "seeds": num_seeds, "repetitions": options.repetitions}
        for metric, shares in simulate(case, num_images, num_seeds, options.repetitions, random, metrics).items():
            rows.append({**about, "metric": metric, **asdict(shares)})
            print(
                f"| {name} | {num_images} | {num_seeds} | {metric} | {shares.truth:.3f} | {shares.coverage:.1f} | "
                f"{shares.false_difference:.1f} | {shares.no_interval:.1f} |",
                flush=True,
            )
    file.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
