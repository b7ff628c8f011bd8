"""Memory from run to run: a search that learns from earlier ones against a cold one, and against a greedy portfolio of eight configs.

    python -m benchmarks.search_quality.memory --tasks 34 --seeds 1

Leave one task out: the earlier runs are cold searches of other tasks with the same space, as the default sampler makes them in the time of 20
full trainings (`simulation.py`); those of LCBench are of eight of its 34 tasks. `--family recorded` takes the recorded curves instead. Of these,
only the tasks of TaskSet share a space; a task without another one of its space has nothing to learn from, and is named and left out. The regret is that of the incumbent trained in full.
What is in the file of results is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmarks import RESULTS, half_width
from benchmarks.search_quality.contenders import Contender, Forecasting, Stopping
from benchmarks.search_quality.simulation import simulate
from benchmarks.search_quality.tasks import Task, digits_tasks, lcbench_tasks, recorded_tasks
from winnow.search.samplers.draft import Draft
from winnow.search.samplers.memory import RememberingSampler
from winnow.search.samplers.memory_model import Recollection, ThisSearch
from winnow.search.seeds import Stream, derive_seed
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.study.space_changes import Recorder

BUDGETS = (5, 10, 20)
NUM_EARLIER = 8
PORTFOLIO = 8
EARLIER_SEED = 1000
NAMES = tuple(
    f"{sampler}{way}" for sampler in ("forecast", "random + ASHA") for way in ("", ", portfolio of 8", ", learn-from")
)


class Alike(Recollection):
    """Earlier runs that weigh the same whatever this search shows: a greedy portfolio."""

    def weights(self, current: ThisSearch, rng: np.random.Generator) -> np.ndarray:
        return np.full(len(self.names), 1 / len(self.names))


class LearningAtRandom(Stopping):
    """Random configs with successive halving, after those that earlier runs propose."""

    def __init__(self, task: Task, seed: int, recollection: Recollection, num_proposed: float) -> None:
        super().__init__(task, seed, "random")
        self.recollection, self.num_proposed = recollection, num_proposed

    def sampler_of(self, number: int) -> BaseSampler:
        inner = super().sampler_of(number)
        return learning(inner, self.recollection, self.seed, number) if number < self.num_proposed else inner


class LearningForecast(Forecasting):
    """The default sampler, in turns with earlier runs."""

    def __init__(self, task: Task, seed: int, recollection: Recollection, num_proposed: float) -> None:
        super().__init__(task, seed)
        self.recollection, self.num_proposed = recollection, num_proposed

    def sampler_of(self, number: int) -> BaseSampler:
        inner = super().sampler_of(number)
        return learning(inner, self.recollection, self.seed, number) if number < self.num_proposed else inner


def learning(inner: BaseSampler, recollection: Recollection, seed: int, number: int) -> BaseSampler:
    return RememberingSampler(inner, recollection, derive_seed(Stream.SAMPLER, seed, number))


def contenders(task: Task, seed: int, earlier: dict[str, list[FrozenTrial]]) -> dict[str, Callable[[], Contender]]:
    """Each way to search, by name; made when it runs."""

    @cache
    def recalled(kind: type[Recollection]) -> Recollection:
        return kind(earlier)

    return {
        "forecast": lambda: Forecasting(task, seed),
        "forecast, portfolio of 8": lambda: LearningForecast(task, seed, recalled(Alike), PORTFOLIO),
        "forecast, learn-from": lambda: LearningForecast(task, seed, recalled(Recollection), math.inf),
        "random + ASHA": lambda: Stopping(task, seed, "random"),
        "random + ASHA, portfolio of 8": lambda: LearningAtRandom(task, seed, recalled(Alike), PORTFOLIO),
        "random + ASHA, learn-from": lambda: LearningAtRandom(task, seed, recalled(Recollection), math.inf),
    }


def earlier_run(task: Task, cache_folder: Path) -> list[FrozenTrial]:
    """The trials of a cold search of a task, from the cache if it was made before."""
    file = cache_folder / f"{task.name}.json"
    if not file.is_file():
        contender = Forecasting(task, EARLIER_SEED + zlib.crc32(task.name.encode()) % 1000)
        simulate(contender, task, [max(BUDGETS)])
        rows = [[t.params, t.intermediate_values] for t in contender.study.get_trials(deepcopy=False)]
        cache_folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
    return [_trial(task, params, values) for params, values in json.loads(file.read_text())]


def _trial(task: Task, params: dict[str, Any], values: dict[str, float]) -> FrozenTrial:
    recorder = Recorder(params)
    task.suggest(recorder)
    return create_trial(
        state=TrialState.PRUNED,
        params=params,
        distributions=recorder.distributions,
        intermediate_values={int(epoch): value for epoch, value in values.items()},
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=("lcbench", "recorded"), default="lcbench")
    parser.add_argument("--tasks", type=int, default=34, help="how many of the tasks, evenly chosen")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--contenders", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "winnow-earlier-runs")
    asked = parser.parse_args()
    path = RESULTS / "memory.jsonl"
    done = {(line["task"], line["contender"], line["seed"]) for line in read_json_lines(path)}
    lines = JsonLines(path)
    tasks = lcbench_tasks() if asked.family == "lcbench" else with_teachers([*recorded_tasks(), *digits_tasks()])
    teachers = tasks[::3][:NUM_EARLIER] if asked.family == "lcbench" else tasks
    for seed in range(asked.seeds):
        for task in tasks[:: max(1, len(tasks) // asked.tasks)][: asked.tasks]:
            missing = [name for name in asked.contenders if (task.name, name, seed) not in done]
            if not missing:
                continue
            others = [each for each in teachers if each.name != task.name and space_of(each) == space_of(task)]
            earlier = {each.name: earlier_run(each, asked.cache) for each in others}
            ways = contenders(task, seed, earlier)
            for name in missing:
                marks = simulate(ways[name](), task, BUDGETS)
                regrets = [round(task.regret(score), 3) for score, _ in marks]
                lines.append({"task": task.name, "contender": name, "seed": seed, "regrets": regrets})
                print(task.name, seed, name, regrets, flush=True)
    lines.close()
    names = {task.name for task in tasks}
    print(table([line for line in read_json_lines(path) if line["task"] in names], asked.contenders))


def space_of(task: Task) -> dict[str, BaseDistribution]:
    """The parameters of a random config of a task, with what they may be. Tasks of one space without conditions have the same."""
    trial = Draft(optuna.create_study(), RandomSampler(seed=0), 0)
    task.suggest(trial)
    return trial.distributions


def with_teachers(tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks for which another one has the same space; the others are printed."""
    spaces = [space_of(task) for task in tasks]
    alone = [task for task, space in zip(tasks, spaces, strict=True) if spaces.count(space) == 1]
    for task in alone:
        print(f"{task.name}: left out, because no other task has its space", flush=True)
    return [task for task in tasks if task not in alone]


def table(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Mean regret over the tasks, and the paired difference to the cold search with the same sampler and its 95 % interval."""
    found = {(run["task"], run["seed"], run["contender"]): run["regrets"] for run in runs}
    keys = sorted({key[:2] for key in found if all((*key[:2], name) in found for name in names)})
    tasks = sorted({task for task, _ in keys})
    rows = [
        "| full trainings | search | regret | less than cold (95 %) | worst task | tasks | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for place, budget in enumerate(BUDGETS):
        for name in names:
            cold = name.partition(",")[0]
            regret = {t: mean(found[*key, name][place] for key in keys if key[0] == t) for t in tasks}
            less = [mean(found[*key, cold][place] for key in keys if key[0] == t) - regret[t] for t in tasks]
            half = half_width(less)
            paired = "" if name == cold else f"{mean(less):+.1f} ({mean(less) - half:+.1f} to {mean(less) + half:+.1f})"
            worst = "" if name == cold else f"{min(less):+.1f}"
            rows.append(
                f"| {budget} | {name} | {mean(regret.values()):.1f} | {paired} | {worst} | {len(tasks)} | {len(keys) // max(1, len(tasks))} |"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    main()
