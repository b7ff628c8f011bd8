"""Measures the cost of a suggestion in a long study, with all of it and with the part that `winnow.search.samplers.history_window` keeps; and whether it suggests as well.

    python -m benchmarks.scale.asking [--repeats 5] [--searches 20]

Cost: CPU milliseconds of one draft in studies of `digits` trials (random configs, made-up values; half of the configs are marked as drawn at
random, by which `forecast` computes its skill), by turns: TPE on the whole and on the part, `forecast` on its part. Once more with 512
running trials beside them.
Choices: searches of a synthetic objective of six parameters (two matter little), 300 trials each, the same seeds, the history bounded to 100
trials (20 of them the best) against the whole: best value found, paired over the searches. Writes benchmarks/results/asking.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

import numpy as np
import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

import winnow.search.samplers.forecast_model  # noqa: F401  SciPy's import is not part of what is measured
from benchmarks import RESULTS, half_width, spread
from winnow.search.samplers.draft import RANDOM, Draft
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.search.storage.provenance import hardware, versions
from winnow.spaces import catalog

SIZES = (100, 500, 1000, 2000, 5000, 10_000)
NUM_RUNNING = 512
RUNGS = [1, 3, 9, 18]
NUM_TRIALS, BOUND, NUM_BEST = 300, 100, 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--searches", type=int, default=20)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    costs = {}
    print("| trials in the study | running | TPE, whole, ms | TPE, bounded, ms | forecast, ms |\n|---|---|---|---|---|")
    for running in (0, NUM_RUNNING):
        for size in SIZES:
            of_size = costs[f"{size} ended, {running} running"] = cost(size, running, options.repeats)
            cells = [spread(taken, ".0f") for taken in of_size.values()]
            print(f"| {size} | {running} | {' | '.join(cells)} |")
    pairs = [(best_of_search(seed, None), best_of_search(seed, BOUND)) for seed in range(options.searches)]
    differences = [bounded - whole for whole, bounded in pairs]
    print(
        f"\nbounded less whole, best of {NUM_TRIALS}: {statistics.mean(differences):+.4f} +- {half_width(differences):.4f} (n = {len(pairs)})"
    )
    raw = {"costs_ms": costs, "pairs": pairs, "load": os.getloadavg(), "hardware": hardware(), "versions": versions()}
    path = RESULTS / "asking.json"
    path.write_text(json.dumps(raw, indent=2) + "\n")


def cost(size: int, running: int, repeats: int) -> dict[str, list[float]]:
    study, space = made_up_study(size, running), catalog.load("digits")
    taken: dict[str, list[float]] = {"whole": [], "bounded": [], "forecast": []}
    for repeat in range(repeats):
        for name in taken:
            sampler = "forecast" if name == "forecast" else "tpe"
            suggesting = make_sampler(sampler, SamplerContext(repeat, size + running, RUNGS))
            started = time.process_time()
            space.suggest(Draft(study if name == "whole" else recent(study, sampler), suggesting, size + running))
            taken[name].append(1000 * (time.process_time() - started))
    return taken


def made_up_study(size: int, running: int) -> optuna.Study:
    """A third of the trials of a rung continues to the next, as under ASHA. The last `running` trials have not ended."""
    study, space = optuna.create_study(direction="maximize"), catalog.load("digits")
    rng = np.random.default_rng(0)
    for number in range(size + running):
        draft = Draft(study, make_sampler("random", SamplerContext(0, number, RUNGS)), number)
        space.suggest(draft)
        value, last = float(rng.random()), int(rng.choice(RUNGS, p=[0.66, 0.22, 0.08, 0.04]))
        ended = TrialState.COMPLETE if last == 18 else TrialState.PRUNED
        study.add_trial(
            create_trial(
                state=ended if number < size else TrialState.RUNNING,
                value=value if last == 18 and number < size else None,
                user_attrs={RANDOM: True} if number % 2 else {},
                params=draft.params,
                distributions=draft.distributions,
                intermediate_values={epoch: value * epoch / 18 for epoch in range(1, last + 1)},
            )
        )
    return study


def best_of_search(seed: int, bound: int | None) -> float:
    """The best value of a search whose sampler reads `bound` trials of its history; None: all."""
    study = optuna.create_study(direction="maximize")
    domains = {f"x{k}": FloatDistribution(0, 1) for k in range(6)}
    optimum = np.random.default_rng([seed, 7]).random(6)
    for number in range(NUM_TRIALS):
        source = study if bound is None else recent(study, "tpe", bound, NUM_BEST)
        draft = Draft(source, make_sampler("tpe", SamplerContext(seed, number, [1])), number)
        point = [draft.suggest_float(name, 0, 1) for name in domains]
        study.add_trial(
            create_trial(
                value=objective(np.array(point), optimum), params=draft.params, distributions=draft.distributions
            )
        )
    return float(study.best_value)


def objective(point: np.ndarray, optimum: np.ndarray) -> float:
    weights = np.array([1, 1, 0.5, 0.5, 0.05, 0.05])
    distance: Any = weights * (point - optimum) ** 2
    return 1 - float(np.sqrt(distance.sum()))


if __name__ == "__main__":
    main()
