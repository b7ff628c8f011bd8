"""How well searchers spend a budget, on the LCBench surrogate (see `lcbench.py`), 4 asynchronous workers, simulated time.

    python -m benchmarks.search_quality.search_efficiency --seeds 10              # everything that was not run yet, then the tables
    python -m benchmarks.search_quality.search_efficiency --only winnow --seeds 2
    python -m benchmarks.search_quality.search_efficiency --summary               # the tables only

Regret is normalised per task: 0 is the best accuracy known after the last epoch, 100 the median of a random sample. It is
that of the config a user would take: the one with the best accuracy seen at the last epoch it has reached. Defaults were chosen on the
tasks with an even index ("dev", 17 tasks), and are reported on those with an odd one ("test", 17 tasks).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import RESULTS

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: small matrices, and other things run on this machine

import numpy as np
from scipy.stats import rankdata

from benchmarks.search_quality.contenders import CONTENDERS, REFERENCE
from benchmarks.search_quality.lcbench import LcBench, default_folder
from benchmarks.search_quality.simulation import simulate

BUDGETS = (5, 10, 20)


def main() -> None:
    options = parse_arguments()
    bench = LcBench(default_folder())
    runs_file = RESULTS / f"search_efficiency.runs{noise_suffix(options.noise)}.jsonl"
    if not options.summary:
        run_missing(bench, runs_file, options)
    if not options.no_summary:
        write_summary(bench, runs_file, options)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--tasks", choices=["dev", "test", "all"], default="all")
    parser.add_argument(
        "--noise", type=float, default=0.0, help="sd of the noise on every accuracy that is seen (0 to 1)"
    )
    parser.add_argument("--summary", action="store_true", help="run nothing")
    parser.add_argument("--no-summary", action="store_true", help="write no tables")
    return parser.parse_args()


def run_missing(bench: LcBench, runs_file: Path, options: argparse.Namespace) -> None:
    """Seed by seed, so that an interrupted benchmark has the same seeds of everyone."""
    scales = regret_scales(bench)
    done = {(run["contender"], run["task"], run["seed"]) for run in read_runs(runs_file)}
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.only:
            for task in half(bench.tasks, options.tasks):
                if (name, task, seed) in done:
                    continue
                best, median = scales[task]
                own_seed = 1000 * seed + bench.tasks.index(
                    task
                )  # the same first points on all tasks would be one draw, not 34
                started = time.perf_counter()
                marks = simulate(
                    CONTENDERS[name](own_seed),
                    lambda params, task=task: bench.curve(task, params),
                    BUDGETS,
                    noise=options.noise,
                    seed=own_seed,
                )
                line = {
                    "contender": name,
                    "task": task,
                    "seed": seed,
                    "regrets": [round(100 * (best - accuracy) / (best - median), 4) for accuracy, _ in marks],
                    "accuracies": [round(accuracy, 5) for accuracy, _ in marks],
                    "trials": [num_trials for _, num_trials in marks],
                    "seconds": round(time.perf_counter() - started, 2),
                }
                with runs_file.open("a") as file:
                    file.write(json.dumps(line) + "\n")


def regret_scales(bench: LcBench) -> dict[str, tuple[float, float]]:
    file = RESULTS / "search_efficiency.scales.json"
    if not file.exists():
        file.write_text(json.dumps({task: bench.regret_scale(task) for task in bench.tasks}, indent=1))
    return {task: (best, median) for task, (best, median) in json.loads(file.read_text()).items()}


def half(tasks: list[str], which: str) -> list[str]:
    return {"dev": tasks[::2], "test": tasks[1::2], "all": tasks}[which]


def read_runs(runs_file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runs_file.read_text().splitlines()] if runs_file.exists() else []


# --- tables ---------------------------------------------------------------------------------------------------------------


def write_summary(bench: LcBench, runs_file: Path, options: argparse.Namespace) -> None:
    runs = read_runs(runs_file)
    names = [name for name in options.only if any(run["contender"] == name for run in runs)]
    halves = {which: summarise(runs, names, half(bench.tasks, which)) for which in ("test", "dev", "all")}
    packages = {name: version(name) for name in ("optuna", "ray", "numpy", "scipy", "onnxruntime")}
    provenance = {
        "command": "python -m benchmarks.search_quality.search_efficiency " + shlex.join(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "versions": {"python": platform.python_version(), **packages},
        "noise": options.noise,
        "budgets": BUDGETS,
        "workers": 4,
    }
    stem = f"search_efficiency{noise_suffix(options.noise)}"
    (RESULTS / f"{stem}.json").write_text(json.dumps({**provenance, "halves": halves}, indent=1) + "\n")
    (RESULTS / f"{stem}.md").write_text(render(provenance, halves))
    print((RESULTS / f"{stem}.md").read_text())


def summarise(runs: list[dict[str, Any]], names: list[str], tasks: list[str]) -> dict[str, Any]:
    """Over the seeds that every contender has on every one of these tasks."""
    table: dict[str, dict[tuple[str, int], dict[str, Any]]] = {name: {} for name in names}
    for run in runs:
        if run["contender"] in table and run["task"] in tasks:
            table[run["contender"]][run["task"], run["seed"]] = run
    all_seeds = sorted({seed for of_name in table.values() for _, seed in of_name})
    seeds = [seed for seed in all_seeds if all((task, seed) in table[name] for name in names for task in tasks)]
    if not seeds:
        return {"seeds": 0, "tasks": tasks, "contenders": {}}
    cells = {  # [tasks, seeds, budgets]
        name: np.array([[table[name][task, seed]["regrets"] for seed in seeds] for task in tasks]) for name in names
    }
    ranks = rankdata(np.stack([cells[name] for name in names]), axis=0).mean(axis=(1, 2))  # [contenders, budgets]
    contenders = {}
    for i, name in enumerate(names):
        of_name = [table[name][task, seed] for task in tasks for seed in seeds]
        contenders[name] = {
            "mean": rounded(cells[name].mean(axis=(0, 1))),
            "interval": [rounded(end) for end in bootstrap(cells[name].mean(axis=1))],
            "median": rounded(np.median(cells[name], axis=(0, 1))),
            "sd_between_seeds": rounded(cells[name].mean(axis=0).std(axis=0, ddof=1)) if len(seeds) > 1 else None,
            "rank": rounded(ranks[i], 2),
            "trials": rounded(np.mean([run["trials"] for run in of_name], axis=0), 0),
            "seconds_per_search": round(float(np.median([run["seconds"] for run in of_name])), 2),
            "per_task": {task: rounded(cells[name][j].mean(axis=0)) for j, task in enumerate(tasks)},
        }
        if REFERENCE in names and name != REFERENCE:
            difference = cells[name].mean(axis=1) - cells[REFERENCE].mean(axis=1)  # [tasks, budgets]
            contenders[name]["worse_by"] = rounded(difference.mean(axis=0))
            contenders[name]["worse_by_interval"] = [rounded(end) for end in bootstrap(difference)]
            contenders[name]["tasks_won_against"] = [int(count) for count in (difference > 0).sum(axis=0)]
    return {"seeds": len(seeds), "tasks": tasks, "contenders": contenders}


def bootstrap(of_tasks: np.ndarray, num_samples: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval of the mean over tasks: [tasks, budgets] -> two [budgets]."""
    picks = np.random.default_rng(0).integers(len(of_tasks), size=(num_samples, len(of_tasks)))
    low, high = np.quantile(of_tasks[picks].mean(axis=1), [0.025, 0.975], axis=0)
    return low, high


def render(provenance: dict[str, Any], halves: dict[str, Any]) -> str:
    titles = {
        "test": "Reported: the 17 tasks that no choice was made on",
        "dev": "The 17 tasks that the choices were made on",
        "all": "All 34 tasks",
    }
    lines = [
        "# Search efficiency on LCBench",
        "",
        f"`{provenance['command']}`, {provenance['date']}; {provenance['machine']}; "
        + ", ".join(f"{name} {number}" for name, number in provenance["versions"].items())
        + f". 4 asynchronous workers, simulated time, observation noise {provenance['noise']}.",
        "",
        "Normalised regret x 100 (0: best known, 100: median of random configs) of the incumbent after the cost of 5, 10 and 20 full",
        "trainings of 50 epochs; mean over tasks and seeds [95 % bootstrap interval over tasks]; `worse by`: paired difference to",
        f"{REFERENCE} with its interval; `lost on`: tasks on which {REFERENCE} has the lower mean regret; rank among all contenders.",
        "",
    ]
    for which, title in titles.items():
        part = halves[which]
        lines += [f"## {title} ({part['seeds']} seeds)", ""]
        for b, budget in enumerate(provenance["budgets"]):
            lines += [f"### {budget} full trainings", ""]
            lines += [
                "| searcher | regret | median | sd between seeds | worse by | lost on | rank | trials |",
                "| --- " * 8 + "|",
            ]
            for name, row in part["contenders"].items():
                low, high = (end[b] for end in row["interval"])
                worse = lost = ""
                if "worse_by" in row:
                    ends = [end[b] for end in row["worse_by_interval"]]
                    worse = f"{row['worse_by'][b]:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"
                    lost = f"{row['tasks_won_against'][b]}/{len(part['tasks'])}"
                spread = "" if row["sd_between_seeds"] is None else f"{row['sd_between_seeds'][b]:.1f}"
                lines.append(
                    f"| {name} | {row['mean'][b]:.1f} [{low:.1f}, {high:.1f}] | {row['median'][b]:.1f} | {spread} "
                    f"| {worse} | {lost} | {row['rank'][b]:.2f} | {row['trials'][b]:.0f} |"
                )
            lines.append("")
    return "\n".join(lines)


def rounded(values: np.ndarray, digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in values]


def noise_suffix(noise: float) -> str:
    return f".noise{noise:g}" if noise else ""


if __name__ == "__main__":
    main()
