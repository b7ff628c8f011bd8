"""Measures how close importance under early stopping comes to the importance of fully trained trials.

    python -m benchmarks.search_quality.importance [--seeds 10]

A hundred trials of a simulated training go through ASHA. `final` decides the value at the end, `speed` how soon it is reached,
`useless` nothing. In `parallel` the speed does not matter and curves do not cross, so that last values are a good measure.
The truth is fANOVA on the final values of all trials, had none been stopped. Prints the shares by last values, as up to
version 0.1, and as reported now, in percent; writes benchmarks/results/importance.json. One minute on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from optuna.distributions import FloatDistribution, distribution_to_json

from benchmarks import RESULTS
from winnow.reports.reading.journal import State, Trial
from winnow.reports.tables.importance import estimated_ends, importances_of
from winnow.search.schedulers.asha import Asha

DOMAIN = distribution_to_json(FloatDistribution(0, 1))
NAMES = ("final", "speed", "useless")
NUM_TRIALS = 100
NOISE = 0.01
Shares = dict[str, float]


def crossing(params: Shares, epochs: np.ndarray) -> np.ndarray:
    """Curves whose speed says nothing about their end."""
    decay = np.exp(-3 * epochs / (2 + 10 * (1 - params["speed"])))
    return (0.5 + 0.3 * params["final"]) * (1 - 0.9 * decay)


def parallel(params: Shares, epochs: np.ndarray) -> np.ndarray:
    """Curves that keep their order; `speed` shifts them by a constant."""
    return (0.5 + 0.3 * params["final"]) * (1 - 0.9 * np.exp(-3 * epochs / 5)) + 0.1 * (params["speed"] - 0.5)


CASES: dict[str, tuple[Callable[[Shares, np.ndarray], np.ndarray], int]] = {
    "crossing, 27 epochs": (crossing, 27),
    "crossing, 48 epochs": (crossing, 48),
    "parallel, 27 epochs": (parallel, 27),
}


@dataclass(frozen=True)
class Result:
    """Share of the variance that each parameter explains, by its name."""

    truth: Shares
    last: Shares
    reported: Shares

    def error(self, shares: Shares) -> float:
        """The largest difference to the truth."""
        return max(abs(shares[name] - self.truth[name]) for name in NAMES)


def simulate(case: str, seed: int) -> Result:
    """Search once with ASHA and compute the importances."""
    curve, num_epochs = CASES[case]
    random = np.random.default_rng(seed)
    asha = Asha(max(1, num_epochs // 16), 3, num_epochs, "maximize")
    trials, observed, full = [], {}, {}
    for number in range(NUM_TRIALS):
        params = dict(zip(NAMES, random.random(3).tolist(), strict=True))
        values = curve(params, np.arange(1, num_epochs + 1)) + random.normal(0, NOISE, num_epochs)
        observed[number] = {}
        for epoch, value in enumerate(values.tolist(), start=1):
            observed[number][epoch] = value
            if not asha.judge(number, epoch, value):
                break
        full[number] = float(values[-1])
        trials.append(Trial(number, State.COMPLETE, None, params, dict.fromkeys(NAMES, DOMAIN), {}, {}, None, None))
    last = {number: values[max(values)] for number, values in observed.items()}
    estimates = estimated_ends(trials, observed, [*asha.rungs, num_epochs])
    shares = _shares(trials, last)
    reported = shares if estimates is None else _shares(trials, estimates)
    return Result(_shares(trials, full), shares, reported)


def _shares(trials: list[Trial], targets: dict[int, float]) -> Shares:
    return {name: importance.share for name, importance in importances_of(trials, targets).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    rows = []
    print("| simulation | parameter | truth | last values | reported |\n|---|---|---|---|---|")
    for case in CASES:
        results = [simulate(case, seed) for seed in range(seeds)]
        for name in NAMES:
            means = [
                100 * float(np.mean([shares[name] for shares in kind]))
                for kind in zip(*((result.truth, result.last, result.reported) for result in results), strict=True)
            ]
            print(f"| {case} | {name} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |", flush=True)
            rows.append({"case": case, "parameter": name, "truth": means[0], "last": means[1], "reported": means[2]})
        worst = [max(result.error(getattr(result, kind)) for result in results) for kind in ("last", "reported")]
        print(
            f"| {case} | largest error of {seeds} searches | | {100 * worst[0]:.0f} | {100 * worst[1]:.0f} |",
            flush=True,
        )
    (RESULTS / "importance.json").write_text(json.dumps({"seeds": seeds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
