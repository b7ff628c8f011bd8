"""Intervals of the calibration error that allow for its bias on small test sets: which hold the truth, beside the report's?

    python -m benchmarks.search_quality.calibration_intervals [--repetitions 200]

The calibration error is a sum of absolute values over the bins of the confidence, so noise can only raise it. The simulation is that of
`metric_intervals`. The report's interval reaches from the lower end of `moments` to the upper end of `plug-in`. The rivals:

- `plug-in`: around the calibration error as it is, as up to 2026-11-30.
- `kumar`: moved by the estimated bias, the expected absolute value of a normal number around what was seen in a bin, less what was
  seen (Kumar et al. 2019, "Verified uncertainty calibration").
- `moments`: moved to the sum over bins of the square root of what was seen squared less its variance, at least 0.
- `percentile`, `basic`: bootstrap over seeds and images, the percentile and the basic interval, which mirrors it.

Prints a Markdown table and writes benchmarks/results/calibration_intervals.json. About three minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from benchmarks import RESULTS
from benchmarks.search_quality.bootstrap import ENDS, Bootstrap
from benchmarks.search_quality.intervals import holds
from benchmarks.search_quality.metric_intervals import (
    CASES,
    FIRST_CASES,
    SIZES,
    Case,
    draw_answers,
    draw_images,
    truths,
)
from winnow.reports.tables.answers import Answers
from winnow.reports.tables.contributions import (
    NUM_BINS,
    calibration_surplus,
    contributions,
    interval_over_both,
    unbiased_calibration_error,
)
from winnow.reports.tables.intervals import Interval, difference_interval, share_interval
from winnow.search.storage.provenance import hardware, versions

Array = np.ndarray
METRIC = "test_calibration_error"
DRAWS = 300
RIVALS = ("report", "plug-in", "kumar", "moments", "percentile", "basic")


def by_kumar(answers: Answers, seed: int) -> float:
    """The calibration error of one network less its bias, as by `kumar`."""
    by_bin = _by_bin(answers, seed)
    num = len(by_bin)
    seen = np.abs(by_bin.sum(0)) / num
    images = np.maximum((by_bin != 0).sum(0), 1)
    squares = (by_bin**2).sum(0) - by_bin.sum(0) ** 2 / images
    deviation = np.sqrt(np.maximum(squares * images / np.maximum(images - 1, 1), 1e-24)) / num
    expected = deviation * math.sqrt(2 / math.pi) * np.exp(-((seen / deviation) ** 2) / 2)
    expected += seen * (1 - 2 * ndtr(-seen / deviation))
    return max(0.0, float((2 * seen - expected).sum()))


ESTIMATES: dict[str, Callable[[Answers, int], float]] = {"kumar": by_kumar, "moments": unbiased_calibration_error}


def judge(first: Answers, second: Answers, bootstrap: Bootstrap) -> dict[str, tuple[Interval, Interval]]:
    """The interval of the first config, and of its difference to the second, by each rival."""
    both = (first, second)
    values = contributions(METRIC, first)
    others = contributions(METRIC, second)
    assert values is not None
    assert others is not None
    difference = difference_interval(values, others)
    found = {"report": (interval_over_both(METRIC, values, first), difference)}
    found["plug-in"] = share_interval(values), difference
    for name, estimate in ESTIMATES.items():
        a, b = (
            by_image
            + np.array([[estimate(answers, seed)] for seed in range(len(by_image))])
            - by_image.mean(1)[:, None]
            for answers, by_image in zip(both, (values, others), strict=True)
        )
        found[name] = share_interval(a), difference_interval(a, b)
    drawn = [_drawn(bootstrap, answers) for answers in both]
    mean, gain = float(values.mean()), float(values.mean() - others.mean())
    for name, mirrored in (("percentile", False), ("basic", True)):
        found[name] = _ends(mean, drawn[0], mirrored), _ends(gain, drawn[0] - drawn[1], mirrored)
    return found


def _by_bin(answers: Answers, seed: int) -> Array:
    """The surplus of each image in the column of its bin, float64 [N, NUM_BINS]."""
    surplus, bins = calibration_surplus(answers, seed)
    return surplus[:, None] * (bins[:, None] == np.arange(NUM_BINS))


def _drawn(bootstrap: Bootstrap, answers: Answers) -> Array:
    """The calibration error in each draw."""
    networks = [_by_bin(answers, seed).astype(np.float32) for seed in range(len(answers.predicted))]
    return bootstrap.over_seeds(np.stack([np.abs(bootstrap.weights @ each).sum(1) for each in networks], axis=1))


def _ends(mean: float, drawn: Array, mirrored: bool) -> Interval:
    low, high = np.quantile(drawn, ENDS)
    return (
        Interval(mean, float(2 * mean - high), float(2 * mean - low))
        if mirrored
        else Interval(mean, float(low), float(high))
    )


def simulate(case: Case, num_images: int, num_seeds: int, repetitions: int, random: np.random.Generator) -> Array:
    """Coverage, false differences and mean width of each rival [RIVALS, 3], the first two in percent."""
    truth = truths(case, (METRIC,))[METRIC]
    bootstrap = Bootstrap(num_images, DRAWS, random)
    sums = np.zeros((len(RIVALS), 3))
    for _ in range(repetitions):
        true, images = draw_images(case, num_images, random)
        first, second = (draw_answers(case, true, images, num_seeds, random) for _ in range(2))
        found = judge(first, second, bootstrap)
        for row, name in zip(sums, RIVALS, strict=True):
            interval, difference = found[name]
            assert interval.low is not None
            assert interval.high is not None
            row += 100 * holds(interval, truth), 100 * (not holds(difference, 0.0)), interval.high - interval.low
    return sums / repetitions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=200)
    repetitions = parser.parse_args().repetitions
    random = np.random.default_rng(0)
    rows = []
    print("| classes | images | seeds | truth | interval | coverage | equal configs called different | width |")
    print("|---|---|---|---|---|---|---|---|")
    for name in FIRST_CASES:
        case = CASES[name]
        for num_images, num_seeds in SIZES:
            truth = truths(case, (METRIC,))[METRIC]
            found = simulate(case, num_images, num_seeds, repetitions, random)
            for rival, (coverage, false_difference, width) in zip(RIVALS, found.tolist(), strict=True):
                about = {"case": name, "images": num_images, "seeds": num_seeds, "truth": truth, "interval": rival}
                rows.append({**about, "coverage": coverage, "false_difference": false_difference, "width": width})
                print(
                    f"| {name} | {num_images} | {num_seeds} | {truth:.3f} | {rival} | {coverage:.1f} | "
                    f"{false_difference:.1f} | {width:.3f} |",
                    flush=True,
                )
    result = {"repetitions": repetitions, "draws": DRAWS, "rows": rows, "hardware": hardware(), "versions": versions()}
    (RESULTS / "calibration_intervals.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
