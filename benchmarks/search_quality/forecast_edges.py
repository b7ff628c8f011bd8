"""What does `forecast` make of studies at the edge: most values the best one, and a loss that explodes once?

    python -m benchmarks.search_quality.forecast_edges

In `saturated`, 20 of 30 trials have an accuracy of 1 and the others rise from 0.5; printed are the forecasts, in standard deviations,
of the first trial (0.5), the tenth (0.95) and the last (1). In `exploding`, the losses of nine trials fall by 0.2 between two rungs,
and one more rises to 1e9; printed is the mean gain that the forecast assumes, and which trial it forecasts to be the best (0 is).
Writes benchmarks/results/forecast_edges.json. Seconds.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import RESULTS
from winnow.search.samplers.forecast_model import Forecast
from winnow.search.storage.provenance import hardware, versions

RUNGS = [1, 3, 9, 27]


def study(rows: list[tuple[float, dict[int, float]]]) -> list[FrozenTrial]:
    """Trials with one parameter, and their value at each rung."""
    trials = []
    for number, (x, values) in enumerate(rows):
        domain = {"x": FloatDistribution(0, 1)}
        trial = create_trial(
            state=TrialState.RUNNING, params={"x": x}, distributions=domain, intermediate_values=values,
            user_attrs={"config": {}},
        )  # fmt: skip
        trial.number = number
        trials.append(trial)
    return trials


def forecast(trials: list[FrozenTrial], sign: float) -> Forecast:
    """The forecast of paused trials."""
    return Forecast(trials, range(len(trials)), sign, RUNGS, False, np.random.default_rng(0))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    saturated = study([(i / 30, {1: min(1.0, 0.5 + 0.05 * i)}) for i in range(30)])
    ends = forecast(saturated, 1.0).mean[[0, 9, 29]].tolist()
    falling = [(0.1 * k, {1: 1.0 + 0.1 * k, 3: 0.8 + 0.1 * k}) for k in range(9)]
    exploding = forecast(study([*falling, (0.4, {1: 1.4, 3: 1e9})]), -1.0)
    gain, best = exploding._gained(-1.0)[1], int(np.argmax(exploding.mean[:9]))
    print("saturated: forecasts of accuracies 0.5, 0.95 and 1: " + ", ".join(f"{end:+.3f}" for end in ends))
    print(f"exploding: mean gain {gain:.3g}, best trial {best}")
    result = {"saturated": ends, "exploding_gain": gain, "exploding_best": best}
    result |= {"hardware": hardware(), "versions": versions()}
    (RESULTS / "forecast_edges.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
