"""Compares how well searchers spend a budget, on unlike families of tasks, with asynchronous workers in simulated time.

    python -m benchmarks.search_quality.search_efficiency --seeds 10    # everything that was not run yet, then the tables
    python -m benchmarks.search_quality.search_efficiency --only forecast --half dev --seeds 2
    python -m benchmarks.search_quality.search_efficiency --summary     # the tables only

The families are LCBench, recorded trainings of convolutional networks ("cnn"), of recurrent text classifiers ("taskset") and of
the conditional space `digits` ("digits"); `tasks.py` describes them. Every second task of a family is "dev", on which defaults
were chosen; the others are "test". No choice was made on `digits`. Results go line by line to `benchmarks/results/search_quality.jsonl`, the tables
(`efficiency_tables.py`) to `search_quality.md` beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import zlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: small matrices, and other things run on this machine

from benchmarks import RESULTS
from benchmarks.search_quality.contenders import CONTENDERS
from benchmarks.search_quality.efficiency_tables import tables
from benchmarks.search_quality.simulation import simulate
from benchmarks.search_quality.tasks import Task, digits_tasks, lcbench_tasks, recorded_tasks

if find_spec("syne_tune"):
    from benchmarks.search_quality.syne_tune_rivals import RIVALS

    CONTENDERS |= RIVALS

BUDGETS = (2, 5, 10, 20, 50)
LCBENCH_EVERY = 4  # of its 34 tasks, so that a run of all contenders takes hours and not days


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--half", choices=["dev", "test", "all"], default="all")
    parser.add_argument("--tasks", nargs="*", default=[""], help="beginnings of their names")
    parser.add_argument("--workers", type=int, nargs="*", default=[4])
    parser.add_argument("--budget", type=int, default=BUDGETS[-1], help="the largest budget, in full trainings")
    parser.add_argument("--noise", type=float, default=0.0, help="sd of the noise on every score, in regrets (0 to 1)")
    parser.add_argument("--results", type=Path, default=RESULTS / "search_quality.jsonl")
    parser.add_argument("--summary", action="store_true", help="run nothing")
    options = parser.parse_args()
    if not options.summary:
        run_missing(chosen_tasks(options.half, options.tasks), options)
    halves = {half: [task.name for task in chosen_tasks(half, [""])] for half in ("test", "dev")}
    budgets = [budget for budget in BUDGETS if budget <= options.budget]
    text = f"# Search quality\n\n{__doc__.splitlines()[0]}\n\n{tables(read_runs(options.results), halves, budgets)}"
    options.results.with_suffix(".md").write_text(text)
    print(text)


def chosen_tasks(half: str, beginnings: list[str]) -> list[Task]:
    """Tasks of every family, alternately of the half that choices are made on and of the other."""
    lcbench = lcbench_tasks()
    pairs = [task for i in range(0, len(lcbench), 2 * LCBENCH_EVERY) for task in lcbench[i : i + 2]]
    recorded = recorded_tasks()[::-1]
    families = [
        pairs,
        *([t for t in recorded if t.family == name] for name in dict.fromkeys(t.family for t in recorded)),
    ]
    halves = {"dev": slice(0, None, 2), "test": slice(1, None, 2), "all": slice(None)}
    tasks = [task for family in families for task in family[halves[half]]] + (digits_tasks() if half != "dev" else [])
    return [task for task in tasks if task.name.startswith(tuple(beginnings))]


def run_missing(tasks: list[Task], options: argparse.Namespace) -> None:
    """Seed by seed, so that an interrupted benchmark has the same seeds of everyone."""
    budgets = [budget for budget in BUDGETS if budget <= options.budget]
    done = {_key(run) for run in read_runs(options.results) if len(run["regrets"]) >= len(budgets)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for workers in options.workers:
            for task in tasks:
                for name in options.only:
                    run = {
                        "contender": name,
                        "task": task.name,
                        "workers": workers,
                        "noise": options.noise,
                        "seed": seed,
                    }
                    if _key(run) not in done:
                        _append(options.results, {**run, **_run(name, task, budgets, workers, options.noise, seed)})


def _run(name: str, task: Task, budgets: list[int], workers: int, noise: float, seed: int) -> dict[str, Any]:
    own_seed = 1000 * seed + zlib.crc32(task.name.encode()) % 1000  # or all tasks would share their first points
    started = time.process_time()
    contender = CONTENDERS[name](task, own_seed)
    marks = simulate(contender, task, budgets, workers, noise * (task.best - task.median), own_seed)
    return {
        "family": task.family,
        "regrets": [round(task.regret(score), 2) for score, _ in marks],
        "trials": [num_trials for _, num_trials in marks],
        "seconds": round(time.process_time() - started, 2),
    }


def _key(run: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(run[name] for name in ("contender", "task", "workers", "noise", "seed"))


def _append(path: Path, line: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")


def read_runs(path: Path) -> list[dict[str, Any]]:
    """The runs that the file of raw figures holds so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
