"""Fronts of accuracy and size: ours with early stopping against Optuna's TPE and NSGA-II without, at equal cost in simulated time.

    python -m benchmarks.search_quality.fronts --tasks 8 --seeds 5

The trainings are those of the LCBench surrogate. The cost of a network is the number of its weights, as its layers and units say: LCBench's
networks are funnels from `max_units` to the classes; 50 inputs and 10 classes are assumed. An epoch of any config costs one unit on one of four
workers. What counts is the hypervolume of the trials that were trained to their end, in (accuracy, logarithm of the cost): 0 is the median accuracy
of random configs and the largest network, 1 the best known accuracy at the size of the smallest.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from benchmarks import RESULTS, half_width
from benchmarks.search_quality.tasks import Params, Task, lcbench_tasks
from winnow.search.samplers.draft import Draft
from winnow.search.samplers.history_window import recent
from winnow.search.samplers.registry import SamplerContext, make_sampler
from winnow.search.samplers.scalarized import scalarized
from winnow.search.schedulers.pausing import Pausing
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.settings import Settings, default_grace_epochs
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.spaces.fronts import hypervolume
from winnow.spaces.samplers import spec_of

BUDGETS = (10, 20, 40)
NUM_WORKERS = 4
NUM_INPUTS, NUM_CLASSES = 50, 10
COST = "num_parameters"


def num_weights(params: Params) -> float:
    """The number of weights of a funnel-shaped network."""
    widths = np.linspace(params["max_units"], NUM_CLASSES, int(params["num_layers"]) + 1)
    sizes = [NUM_INPUTS, *widths]
    return float(sum(a * b for a, b in pairwise(sizes)))


SMALLEST, LARGEST = (num_weights({"max_units": units, "num_layers": 1}) for units in (64, 1024))
LARGEST = max(LARGEST, num_weights({"max_units": 1024, "num_layers": 5}))


class Contender(Protocol):
    def ask(self) -> tuple[int, Params]: ...

    def report(self, number: int, epoch: int, value: float) -> bool: ...


class Ours:
    """The decisions of the ledger in a search with two objectives, without its folder."""

    def __init__(self, task: Task, seed: int, sampler: str) -> None:
        self.task = task
        self.settings = Settings(
            objectives=["validation_accuracy", "parameters"],
            sampler=sampler,
            seed=seed,
            max_epochs=task.epochs,
            grace_epochs=default_grace_epochs(task.epochs),
        )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.study = optuna.create_study(direction="maximize")
        self.storage = self.study._storage
        self.rule = make_scheduler(self.settings, spec_of(sampler).pauses)
        self.paused: set[int] = set()
        self.num_trials = 0

    def ask(self) -> tuple[int, Params]:
        number = self.num_trials
        shown = recent(scalarized(self.study, self.settings), self.settings.sampler)
        rungs = [*self.rule.rungs, self.task.epochs]
        sampler: Any = make_sampler(self.settings.sampler, SamplerContext(self.settings.seed, number, rungs))
        if isinstance(self.rule, Pausing):
            resumed = sampler.resume(shown, self.paused, self.rule)
            if resumed is not None:
                self.paused.discard(resumed)
                return resumed, {}
        draft = Draft(shown, sampler, number)
        self.task.suggest(draft)
        cost = {COST: num_weights(draft.params)}
        self.storage.create_new_trial(self.study._study_id, template_trial=draft.to_trial(cost))
        self.rule.note_figures(number, cost)
        self.num_trials += 1
        return number, draft.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        self.storage.set_trial_intermediate_value(trial_id, epoch, value)
        going_on = self.rule.judge(number, epoch, value)
        settle(self.study, self.rule, self.paused, number, value if epoch == self.task.epochs else None, going_on)
        return going_on


def settle(
    study: optuna.Study, rule: object, paused: set[int], number: int, final: float | None, going_on: bool
) -> None:
    """End a trial in the study, or note that it is paused, after the rule has judged an epoch.

    Args:
        study: The study.
        rule: The rule that judged.
        paused: Numbers of the paused trials; the trial is added if it pauses.
        number: Number of the trial.
        final: Its value if this was its last epoch; otherwise None.
        going_on: Whether the rule lets it continue.
    """
    if final is not None:
        study.tell(number, final)
    elif not going_on and isinstance(rule, Pausing):
        paused.add(number)
    elif not going_on:
        study.tell(number, state=TrialState.PRUNED)


class OptunaFront:
    """Optuna's own study with two objectives, which trains every trial to its end: it cannot prune there."""

    def __init__(self, task: Task, sampler: BaseSampler) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.task = task
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self.trials: dict[int, Trial] = {}

    def ask(self) -> tuple[int, Params]:
        trial = self.study.ask()
        self.task.suggest(trial)
        self.trials[trial.number] = trial
        return trial.number, trial.params

    def report(self, number: int, epoch: int, value: float) -> bool:
        if epoch == self.task.epochs:
            self.study.tell(self.trials[number], [value, num_weights(self.trials[number].params)])
        return True


CONTENDERS: dict[str, Callable[[Task, int], Contender]] = {
    "Optuna TPE": lambda task, seed: OptunaFront(task, TPESampler(seed=seed)),
    "Optuna NSGA-II": lambda task, seed: OptunaFront(task, NSGAIISampler(seed=seed)),
    "random": lambda task, seed: Ours(task, seed, "random"),
    "tpe": lambda task, seed: Ours(task, seed, "tpe"),
    "forecast": lambda task, seed: Ours(task, seed, "forecast"),
}


def volumes(contender: Contender, task: Task) -> list[float]:
    """The hypervolume of the completed trials at each budget of full trainings."""
    params: dict[int, Params] = {}
    epochs: dict[int, int] = {}
    completed: list[tuple[float, float]] = []
    events: list[tuple[int, int, int]] = []  # (time at which the epoch ends, worker, trial)
    found: list[float] = []

    def start(now: int, worker: int) -> None:
        number, asked = contender.ask()
        params.setdefault(number, asked)
        heapq.heappush(events, (now + 1, worker, number))

    for worker in range(NUM_WORKERS):
        start(0, worker)
    while True:
        while events[0][0] > BUDGETS[len(found)] * task.epochs / NUM_WORKERS:
            found.append(volume(completed, task))
            if len(found) == len(BUDGETS):
                return found
        now, worker, number = heapq.heappop(events)
        epochs[number] = epochs.get(number, 0) + 1
        value = float(task.curve(params[number])[epochs[number] - 1])
        going_on = contender.report(number, epochs[number], value)
        if epochs[number] == task.epochs:
            completed.append((value, num_weights(params[number])))
        if going_on and epochs[number] < task.epochs:
            heapq.heappush(events, (now + 1, worker, number))
        else:
            start(now, worker)


def volume(completed: Sequence[tuple[float, float]], task: Task) -> float:
    """The hypervolume, 0 to 1."""
    span = math.log(LARGEST / SMALLEST)
    points = [((s - task.median) / (task.best - task.median), math.log(LARGEST / c) / span) for s, c in completed]
    return hypervolume(np.array(points).reshape(-1, 2), np.zeros(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=8, help="how many of the 34 tasks, evenly chosen")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS))
    asked = parser.parse_args()
    path = RESULTS / "fronts.jsonl"
    done = {(line["task"], line["contender"], line["seed"]) for line in read_json_lines(path)}
    lines = JsonLines(path)
    tasks = lcbench_tasks()
    for seed in range(asked.seeds):
        for task in tasks[:: max(1, len(tasks) // asked.tasks)][: asked.tasks]:
            for name in asked.contenders:
                if (task.name, name, seed) not in done:
                    found = volumes(CONTENDERS[name](task, seed), task)
                    lines.append({"task": task.name, "contender": name, "seed": seed, "volumes": found})
    lines.close()
    print(table(list(read_json_lines(path)), asked.contenders))


def table(runs: Sequence[dict[str, Any]], contenders: Sequence[str]) -> str:
    """Mean hypervolume, and the ratio to the better of the rivals with its 95 % interval over the tasks."""
    found = {(run["task"], run["seed"], run["contender"]): run["volumes"] for run in runs}
    keys = sorted({key[:2] for key in found if all((*key[:2], name) in found for name in contenders)})
    tasks = sorted({task for task, _ in keys})
    rows = ["| full trainings | contender | hypervolume | ratio to Optuna's better one (95 %) | tasks | seeds |"]
    rows.append("|---|---|---|---|---|---|")
    for place, budget in enumerate(BUDGETS):
        means = {
            name: {task: mean(found[*key, name][place] for key in keys if key[0] == task) for task in tasks}
            for name in contenders
        }
        rival = max(contenders[:2], key=lambda name: mean(means[name].values()))
        for name in contenders:
            ratios = [math.log(max(means[name][task], 1e-6) / max(means[rival][task], 1e-6)) for task in tasks]
            half = half_width(ratios)
            low, mid, high = (math.exp(mean(ratios) + shift) for shift in (-half, 0.0, half))
            ratio = "" if name == rival else f"{mid:.2f} ({low:.2f} to {high:.2f})"
            volume_text = f"{mean(means[name].values()):.3f}"
            rows.append(f"| {budget} | {name} | {volume_text} | {ratio} | {len(tasks)} | {len(keys) // len(tasks)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
