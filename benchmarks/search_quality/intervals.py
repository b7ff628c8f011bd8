"""Measures how often the report's intervals hold the truth, and how often two equal configs are called different.

    python -m benchmarks.search_quality.intervals [--repetitions 5000] [--bootstrap]

Images differ in difficulty, configs in which images they get wrong, seeds in both: an image is answered right where the sum
of these normal effects is above 0. Two configs have equal population accuracy. Prints a Markdown table and writes
benchmarks/results/intervals.json. Test sets of fewer than 1,000 images get four times the repetitions: their shares lie nearest to
the limits of 3 and 97 %, where 5,000 repetitions have a standard error of 0.24 points. About six minutes on one core.

The rival is the interval over seeds alone. With --bootstrap the bootstrap over seeds and images is one too, with 1,000 draws
(percentile, BCa and Student's t, see `bootstrap`), and the file is intervals_bootstrap.json. With 250 repetitions that takes two to
three minutes on one core.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from statistics import fmean, variance

import numpy as np
from scipy.special import ndtr

from benchmarks import RESULTS
from benchmarks.search_quality.bootstrap import KINDS, Bootstrap
from winnow.reports.tables.intervals import Interval, difference_interval, seeds_interval, share_interval, t_975
from winnow.search.storage.provenance import hardware, versions


@dataclass(frozen=True)
class Case:
    """Normal effects: `base` is the mean, `image_sd` of images, `config_sd` of configs on images, `seed_sd` of seeds on images,
    `network_sd` of seeds as a whole."""

    name: str
    num_images: int
    base: float
    network_sd: float
    image_sd: float = 1.0
    config_sd: float = 0.5
    seed_sd: float = 0.5


CASES = (
    Case("digits-like", 360, 2.9, 0.05),
    Case("digits-like, seeds differ more", 360, 2.9, 0.3),
    *(Case("CIFAR-like", n, 0.6, 0.01, seed_sd=0.8) for n in (500, 2000, 10_000)),
    *(Case("CIFAR-like, seeds differ more", n, 0.6, 0.1, seed_sd=0.8) for n in (500, 2000, 10_000)),
)


SMALL = 1000
"""Test images below which a case is repeated four times as often."""
DRAWS = 1000
"""Draws of a bootstrap."""
SHARED = 50
"""Repetitions that share the drawn images."""


@dataclass(frozen=True)
class Shares:
    """Shares of the repetitions, in percent; `bootstrap` by kind, empty if not asked for; `seeds_only` is the interval over seeds alone, as up to version 0.1."""

    coverage: float
    false_difference: float
    zero_width: float
    coverage_seeds_only: float
    false_difference_seeds_only: float
    bootstrap: dict[str, Bootstrapped]


@dataclass(frozen=True)
class Bootstrapped:
    """Shares of the repetitions, in percent, of one kind of bootstrap."""

    coverage: float
    false_difference: float
    zero_width: float


def simulate(
    case: Case, num_seeds: int, repetitions: int, random: np.random.Generator, with_bootstrap: bool = False
) -> tuple[float, Shares]:
    """The population accuracy, and how the intervals did, those of the bootstrap too if asked for."""
    spread = np.sqrt(case.config_sd**2 + case.seed_sd**2 + case.network_sd**2)
    truth = float(ndtr(random.normal(case.base, case.image_sd, 400_000) / spread).mean())
    counts = np.zeros(5)
    bootstrap_counts = {kind: np.zeros(3) for kind in KINDS if with_bootstrap}
    random_draws = np.random.default_rng(num_seeds)
    for repetition in range(repetitions):
        images = random.normal(case.base, case.image_sd, case.num_images)
        first, second = (_answers(case, images, num_seeds, random) for _ in range(2))
        accuracy, gain = share_interval(first), difference_interval(first, second, step=1.0)
        accuracies = [[float(row.mean()) for row in answers] for answers in (first, second)]
        over_seeds = seeds_interval(accuracies[0])
        zero_width = accuracy.low == accuracy.high or gain.low == gain.high
        called_different = not holds(_gain_over_seeds(*accuracies), 0.0)
        counts += (holds(accuracy, truth), not holds(gain, 0.0), zero_width, holds(over_seeds, truth), called_different)
        if not with_bootstrap:
            continue
        if repetition % SHARED == 0:
            bootstrap = Bootstrap(case.num_images, DRAWS, random_draws)
        of_accuracy, of_gain = bootstrap.of_mean(first), bootstrap.of_difference(first, second)
        for kind, count in bootstrap_counts.items():
            accuracy, gain = of_accuracy[kind], of_gain[kind]
            zero_width = accuracy.low == accuracy.high or gain.low == gain.high
            count += (holds(accuracy, truth), not holds(gain, 0.0), zero_width)
    of_bootstrap = {kind: Bootstrapped(*(100 * count / repetitions)) for kind, count in bootstrap_counts.items()}
    return truth, Shares(*(100 * counts / repetitions), of_bootstrap)


def holds(interval: Interval, value: float) -> bool:
    """Whether an interval has ends and holds a value."""
    return interval.low is not None and interval.high is not None and interval.low <= value <= interval.high


def _gain_over_seeds(first: list[float], second: list[float]) -> Interval:
    """The interval of Welch's t-test over the seeds alone."""
    parts = [variance(values) / len(values) for values in (first, second)]
    spread = sum(part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True))
    half = t_975(sum(parts) ** 2 / spread) * sum(parts) ** 0.5 if spread > 0 else 0.0
    difference = fmean(first) - fmean(second)
    return Interval(difference, difference - half, difference + half)


def _answers(case: Case, images: np.ndarray, num_seeds: int, random: np.random.Generator) -> np.ndarray:
    of_config = images + random.normal(0, case.config_sd, case.num_images)
    of_seeds = random.normal(0, case.seed_sd, (num_seeds, case.num_images))
    return of_config + of_seeds + random.normal(0, case.network_sd, (num_seeds, 1)) > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5000)
    parser.add_argument("--bootstrap", action="store_true")
    options = parser.parse_args()
    rows = []
    print(
        "| images | seeds | accuracy | coverage | over seeds alone | bootstrap: percentile / BCa / t "
        "| equal configs called different | over seeds alone | bootstrap | zero width | bootstrap |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for index, case in enumerate(CASES):
        repetitions = options.repetitions * (4 if case.num_images < SMALL else 1)
        for num_seeds in (3, 5, 10):
            random = np.random.default_rng((index, num_seeds))
            truth, shares = simulate(case, num_seeds, repetitions, random, options.bootstrap)
            rows.append(
                {**asdict(case), "seeds": num_seeds, "repetitions": repetitions, "accuracy": truth, **asdict(shares)}
            )
            coverage, false_difference, zero_width = (
                " / ".join(f"{getattr(of_kind, share):.1f}" for of_kind in shares.bootstrap.values())
                for share in ("coverage", "false_difference", "zero_width")
            )
            print(
                f"| {case.name}, {case.num_images} | {num_seeds} | {truth:.3f} | {shares.coverage:.1f} | "
                f"{shares.coverage_seeds_only:.1f} | {coverage} | {shares.false_difference:.1f} | "
                f"{shares.false_difference_seeds_only:.1f} | {false_difference} | {shares.zero_width:.1f} | {zero_width} |",
                flush=True,
            )
    result = {"rows": rows, "hardware": hardware(), "versions": versions()}
    name = "intervals_bootstrap" if options.bootstrap else "intervals"
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
