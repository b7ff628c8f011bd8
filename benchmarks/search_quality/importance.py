"""Measures how close importance under early stopping comes to the importance of fully trained trials.

    python -m benchmarks.search_quality.importance [--seeds 18]
    python -m benchmarks.search_quality.importance --rivals [--seeds 2]

A hundred trials go through ASHA. In the simulated searches `final` decides the value at the end, `speed` how soon it is reached,
`useless` nothing. In `parallel` the speed shifts the curves, which do not cross. In `one exploded` every value of one trial is worse by
a billion. In the recorded searches random configs have the curves of recorded trainings (`tasks.py`).
The truth is fANOVA on the final values of all trials, had none been stopped or exploded. Compared with it are the shares by the values
that `KINDS` lists, of the simulated searches. Prints the mean shares, and the mean and the largest error of a search, in percent; writes
benchmarks/results/importance.json with the error of each search. Four seconds per search on one core.

With --rivals, all of `KINDS` and `RIVALS` are compared, on simulated searches (of `RIVAL_CASES`, with `RIVAL_SEEDS`) and on recorded ones,
and the file is importance_rivals.json. There an estimate that is always used can be seen to fail.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import FloatDistribution, distribution_to_json, json_to_distribution
from optuna.trial import TrialState, create_trial

from benchmarks import RESULTS
from winnow.reports.reading.journal import State, Trial
from winnow.reports.tables.expected_end import ExpectedEnds
from winnow.reports.tables.importance import estimated_ends, importances_of
from winnow.search.schedulers.asha import Asha
from winnow.search.storage.provenance import hardware, versions

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
RIVALS = ("always estimated", "forecast of curves", "searcher's forecast")
"""By estimated ends in any case; by the median of `trials.expected_end`, of the trials with at least two epochs; and by the mean of the
Gaussian process of the sampler `forecast`."""
RIVAL_CASES = ("crossing, 27 epochs", "parallel, 27 epochs")
RIVAL_SEEDS = (15, 0, 1, 2)
"""Seeds of the simulated searches. Number 15 of `parallel` is the one that is reported worst."""
RECORDED = {"lcnet-cnn": 4, "mit-alexnet": 4, "taskset-patch128_LSTM128_bs64": 2, "digits": 1}
"""Recorded tasks of unlike families, and the number of searches of each."""
Draw = Callable[[int], tuple[Shares, dict[str, str], np.ndarray, np.ndarray]]
"""The parameters of a trial, their distributions as JSON, its values by epoch, and those that the search sees."""


@dataclass(frozen=True)
class Search:
    """A search by ASHA."""

    trials: list[Trial]
    observed: dict[int, dict[int, float]]
    """Values of each trial by epoch, until it was stopped."""
    full: dict[int, float]
    """Value of each trial at the end, had it not been stopped."""
    rungs: list[int]
    """The rungs and the last epoch."""
    is_share: bool = True
    """Whether values are shares in [0, 1], as accuracies are."""

    @property
    def completed(self) -> dict[int, float]:
        return at(self.observed, self.rungs[-1])


@dataclass(frozen=True)
class Result:
    """Share of the variance that each parameter explains, by its name; `shares` for each kind of value."""

    truth: Shares
    shares: dict[str, Shares]

    def error(self, kind: str) -> float:
        """The largest difference to the truth."""
        return max(abs(self.shares[kind].get(name, 0.0) - share) for name, share in self.truth.items())


def simulated(name: str, seed: int) -> Search:
    """Search one of CASES once."""
    case = CASES[name]
    random = np.random.default_rng(seed)

    def draw(number: int) -> tuple[Shares, dict[str, str], np.ndarray, np.ndarray]:
        params = dict(zip(NAMES, random.random(3).tolist(), strict=True))
        values = case.curve(params, np.arange(1, case.num_epochs + 1)) + random.normal(0, NOISE, case.num_epochs)
        return params, dict.fromkeys(NAMES, DOMAIN), values, values - 1e9 if number == case.exploded else values

    return search(draw, case.num_epochs)


def recorded(task: Any, seed: int) -> Search:
    """Search one `benchmarks.search_quality.tasks.Task` once, with random configs."""
    from benchmarks.search_quality.tasks import Drawn

    random = np.random.default_rng(seed)

    def draw(number: int) -> tuple[Shares, dict[str, str], np.ndarray, np.ndarray]:
        drawn = Drawn(random)
        task.suggest(drawn)
        values = np.asarray(task.curve(drawn.params), float)
        return drawn.params, {key: distribution_to_json(d) for key, d in drawn.distributions.items()}, values, values

    return search(draw, task.epochs, is_share=task.family != "taskset")


def search(draw: Draw, num_epochs: int, is_share: bool = True) -> Search:
    """Train `NUM_TRIALS` drawn configs, each until ASHA stops it."""
    asha = Asha(max(1, num_epochs // 16), 3, num_epochs, "maximize")
    trials, observed, full = [], {}, {}
    for number in range(NUM_TRIALS):
        params, distributions, values, seen = draw(number)
        full[number] = float(values[-1])
        observed[number] = {}
        for epoch, value in enumerate(seen.tolist(), start=1):
            observed[number][epoch] = value
            if not asha.judge(number, epoch, value):
                break
        trials.append(Trial(number, State.COMPLETE, None, params, distributions, {}, {}, None, None))
    return Search(trials, observed, full, [*asha.rungs, num_epochs], is_share)


def simulate(name: str, seed: int, kinds: Sequence[str] = KINDS) -> Result:
    """Search one of CASES once and compute the importances."""
    return result_of(simulated(name, seed), kinds)


def result_of(done: Search, kinds: Sequence[str] = KINDS) -> Result:
    """Compute the importances of a search, by its full trainings and by the values of each kind."""
    trials, observed, rungs = done.trials, done.observed, done.rungs
    common = max(rung for rung in rungs if sum(rung in values for values in observed.values()) >= NUM_TRIALS / 3)
    last = {number: values[max(values)] for number, values in observed.items()}

    targets: dict[str, Callable[[], Mapping[int, float]]] = {
        "last values": lambda: last,
        "common rung": lambda: at(observed, common),
        "completed trials": lambda: done.completed,
        "reported": lambda: estimated_ends(trials, observed, rungs, maximize=True) or last,
        "always estimated": lambda: estimated_ends(trials, observed, rungs, True, least_gain=-math.inf) or last,
        "forecast of curves": lambda: _by_curves(done),
        "searcher's forecast": lambda: _by_searcher(done),
    }
    return Result(_shares(trials, done.full), {kind: _shares(trials, targets[kind]()) for kind in kinds})


def at(observed: Mapping[int, Mapping[int, float]], epoch: int) -> dict[int, float]:
    """The values at an epoch of the trials that reached it."""
    return {number: values[epoch] for number, values in observed.items() if epoch in values}


def _by_curves(done: Search) -> dict[int, float]:
    curves = {number: list(values.values()) for number, values in done.observed.items()}
    objective = "validation_accuracy" if done.is_share else "validation_own_metric"
    ends = ExpectedEnds(list(curves.values()), done.rungs[-1], objective, maximize=True)
    forecasts = {number: end.middle for number, curve in curves.items() if (end := ends.of(curve)) is not None}
    return forecasts | done.completed


def _by_searcher(done: Search) -> dict[int, float]:
    from winnow.search.samplers.forecast_model import Forecast

    frozen = []
    for trial in done.trials:
        distributions = {name: json_to_distribution(text) for name, text in trial.distributions.items()}
        seen = done.observed[trial.number]
        made = create_trial(
            state=TrialState.PRUNED, params=trial.params, distributions=distributions, intermediate_values=seen
        )
        made.number = trial.number
        frozen.append(made)
    forecast = Forecast(frozen, (), 1.0, done.rungs, False, np.random.default_rng(0))
    return dict(enumerate(forecast.mean.tolist()))


def _shares(trials: list[Trial], targets: Mapping[int, float]) -> Shares:
    explained = importances_of([trial for trial in trials if trial.number in targets], targets, maximize=True)
    return {name: importance.share for name, importance in explained.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, help="searches of each simulated case; default: 18, and 2 with --rivals")
    parser.add_argument("--rivals", action="store_true", help="compare more kinds of values, on recorded searches too")
    options = parser.parse_args()
    if options.rivals:
        _compare_rivals(options.seeds or 2)
    else:
        _compare_kinds(options.seeds or 18)


def _compare_kinds(seeds: int) -> None:
    rows, errors = [], {}
    print(f"| simulation | | truth | {' | '.join(KINDS)} |\n|{'---|' * (len(KINDS) + 3)}")
    for case in CASES:
        results = [simulate(case, seed) for seed in range(seeds)]
        for name in NAMES:
            truth, *means = (
                100 * float(np.mean([shares.get(name, 0.0) for shares in kind]))
                for kind in zip(
                    *((result.truth, *(result.shares[kind] for kind in KINDS)) for result in results), strict=True
                )
            )
            print(f"| {case} | {name} | {truth:.0f} | " + " | ".join(f"{mean:.0f}" for mean in means) + " |")
            rows.append({"case": case, "parameter": name, "truth": truth, **dict(zip(KINDS, means, strict=True))})
        errors[case] = _errors(case, results)
    found = {"seeds": seeds, "rows": rows, "errors_by_seed": errors}
    (RESULTS / "importance.json").write_text(json.dumps(found, indent=1) + "\n")


def _compare_rivals(seeds: int) -> None:
    kinds = (*KINDS, *RIVALS)
    print(f"| search | | | {' | '.join(kinds)} |\n|{'---|' * (len(kinds) + 3)}")
    chosen = RIVAL_SEEDS[:seeds]
    errors = {case: _errors(case, [simulate(case, seed, kinds) for seed in chosen]) for case in RIVAL_CASES}
    for task in _tasks():
        searches = [recorded(task, seed) for seed in range(RECORDED[task.name])]
        errors[task.name] = _errors(task.name, [result_of(each, kinds) for each in searches])
    found = {"seeds_of_simulated": chosen, "errors": errors, "hardware": hardware(), "versions": versions()}
    (RESULTS / "importance_rivals.json").write_text(json.dumps(found, indent=1) + "\n")


def _tasks() -> list[Any]:
    from benchmarks.search_quality.tasks import digits_tasks, recorded_tasks

    known = {task.name: task for task in (*digits_tasks(), *recorded_tasks())}
    return [known[name] for name in RECORDED]


def _errors(name: str, results: Sequence[Result]) -> dict[str, list[float]]:
    """Print the mean and the largest error of some searches for each kind, and return the errors, in percent."""
    errors = {kind: [round(100 * result.error(kind), 1) for result in results] for kind in results[0].shares}
    for words, of in (("mean", np.mean), ("largest", max)):
        cells = " | ".join(f"{of(each):.0f}" for each in errors.values())
        print(f"| {name} | {words} error of {len(results)} searches | | {cells} |", flush=True)
    return errors


if __name__ == "__main__":
    main()
