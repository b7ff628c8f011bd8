"""Measures how close importance under early stopping comes to the importance of fully trained trials.

    python -m benchmarks.search_quality.importance [--seeds 18]

A hundred trials of a simulated training go through ASHA. `final` decides the value at the end, `speed` how soon it is reached,
`useless` nothing. In `parallel` the speed does not matter and curves do not cross, so that last values are a good measure. In
`one exploded` every value of one trial is worse by a billion.
The truth is fANOVA on the final values of all trials, had none been stopped or exploded. Compared with it are the shares by the values
that `KINDS` lists. Prints the mean shares, and the mean and the largest error of a search, in percent; writes
benchmarks/results/importance.json with the error of each search. Four seconds per search on one core.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Case:
    """A kind of simulated search."""

    curve: Callable[[Shares, np.ndarray], np.ndarray]
    num_epochs: int
    exploded: int | None = None
    """Number of the trial whose values are all worse by a billion."""


CASES = {
    "crossing, 27 epochs": Case(crossing, 27),
    "crossing, 48 epochs": Case(crossing, 48),
    "parallel, 27 epochs": Case(parallel, 27),
    "crossing, 27 epochs, one exploded": Case(crossing, 27, exploded=5),
}
KINDS = ("last values", "common rung", "completed trials", "reported")
"""By the last value of each trial; by the values at the last rung that a third of the trials reached, and by those at the last epoch,
both of the trials that got there; and as reported: by estimated ends, or last values where they are the better measure. Of fewer
trials than an importance needs, all shares are 0."""


@dataclass(frozen=True)
class Result:
    """Share of the variance that each parameter explains, by its name; `shares` for each of KINDS."""

    truth: Shares
    shares: dict[str, Shares]

    def error(self, kind: str) -> float:
        """The largest difference to the truth."""
        return max(abs(self.shares[kind][name] - self.truth[name]) for name in NAMES)


def simulate(name: str, seed: int, kinds: Sequence[str] = KINDS) -> Result:
    """Search once with ASHA and compute the importances."""
    case = CASES[name]
    random = np.random.default_rng(seed)
    asha = Asha(max(1, case.num_epochs // 16), 3, case.num_epochs, "maximize")
    trials, observed, full = [], {}, {}
    for number in range(NUM_TRIALS):
        params = dict(zip(NAMES, random.random(3).tolist(), strict=True))
        values = case.curve(params, np.arange(1, case.num_epochs + 1)) + random.normal(0, NOISE, case.num_epochs)
        full[number] = float(values[-1])
        if number == case.exploded:
            values = values - 1e9
        observed[number] = {}
        for epoch, value in enumerate(values.tolist(), start=1):
            observed[number][epoch] = value
            if not asha.judge(number, epoch, value):
                break
        trials.append(Trial(number, State.COMPLETE, None, params, dict.fromkeys(NAMES, DOMAIN), {}, {}, None, None))
    rungs = [*asha.rungs, case.num_epochs]
    common = max(rung for rung in rungs if sum(rung in values for values in observed.values()) >= NUM_TRIALS / 3)
    last = {number: values[max(values)] for number, values in observed.items()}
    targets = {
        "last values": lambda: last,
        "common rung": lambda: _at(observed, common),
        "completed trials": lambda: _at(observed, case.num_epochs),
        "reported": lambda: estimated_ends(trials, observed, rungs, maximize=True) or last,
    }
    return Result(_shares(trials, full), {kind: _shares(trials, targets[kind]()) for kind in kinds})


def _at(observed: dict[int, dict[int, float]], epoch: int) -> dict[int, float]:
    return {number: values[epoch] for number, values in observed.items() if epoch in values}


def _shares(trials: list[Trial], targets: dict[int, float]) -> Shares:
    explained = importances_of([trial for trial in trials if trial.number in targets], targets, maximize=True)
    return dict.fromkeys(NAMES, 0.0) | {name: importance.share for name, importance in explained.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=18)
    seeds = parser.parse_args().seeds
    rows, errors = [], {}
    print(f"| simulation | | truth | {' | '.join(KINDS)} |\n|{'---|' * (len(KINDS) + 3)}")
    for case in CASES:
        results = [simulate(case, seed) for seed in range(seeds)]
        for name in NAMES:
            truth, *means = (
                100 * float(np.mean([shares[name] for shares in kind]))
                for kind in zip(
                    *((result.truth, *(result.shares[kind] for kind in KINDS)) for result in results), strict=True
                )
            )
            print(f"| {case} | {name} | {truth:.0f} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |")
            rows.append({"case": case, "parameter": name, "truth": truth, **dict(zip(KINDS, means, strict=True))})
        errors[case] = {kind: [round(100 * result.error(kind), 1) for result in results] for kind in KINDS}
        for words, of in (("mean", np.mean), ("largest", max)):
            cells = [f"{of(errors[case][kind]):.0f}" for kind in KINDS]
            print(f"| {case} | {words} error of {seeds} searches | | {' | '.join(cells)} |", flush=True)
    found = {"seeds": seeds, "rows": rows, "errors_by_seed": errors}
    (RESULTS / "importance.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
