"""Measures how often the 90 % intervals of `winnow.reports.tables.expected_end` hold the value that a training ends with.

    python -m benchmarks.search_quality.expected_ends [--seeds 3]
    python -m benchmarks.search_quality.expected_ends --fit

Searches with 4 workers in simulated time, on every recorded task and every fifth of LCBench, by `forecast` and by random + ASHA. After 5,
10 and 20 full trainings, the end of each trial that has not completed (running, paused or stopped, at least two epochs, at most 25
of them) is forecast, and compared with the rest of its curve. `--fit` prints `KNOWN_GAINS`, which is taken from every second task
(`CHOSEN`); the others were not looked at for it. Writes benchmarks/results/expected_ends.json. Ten minutes on one core.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import RESULTS
from benchmarks.search_quality.contenders import Contender, Forecasting, Stopping
from benchmarks.search_quality.tasks import Task, digits_tasks, draw, lcbench_tasks, recorded_tasks
from winnow.reports.tables.expected_end import FEWEST_EPOCHS, QUANTILES, ExpectedEnds, Scale, unit_of

BUDGETS, WORKERS, MOST_TRIALS = (5, 10, 20), 4, 25
SHARES = (1 / 27, 1 / 9, 1 / 5, 1 / 3, 1 / 2, 2 / 3, 0.9)
FITTED_CONFIGS = 80
SEARCHERS: dict[str, Callable[[Task, int], Contender]] = {
    "forecast": Forecasting,
    "random + ASHA": lambda task, seed: Stopping(task, seed, "random"),
}
OBJECTIVES = {"taskset": "validation_own_metric"}
"""Scores of TaskSet are negative losses; those of the other families are accuracies."""

Snapshot = list[tuple[np.ndarray, int]]
"""(curve to its end, epochs that were trained) of each trial."""


def tasks_of(part: slice) -> list[Task]:
    """The tasks of the benchmark; `part` chooses among those of LCBench."""
    return [*recorded_tasks(), *digits_tasks(), *lcbench_tasks()[part]]


def objective_of(task: Task) -> str:
    """The figure that the scores of a task are taken for."""
    return OBJECTIVES.get(task.family, "validation_accuracy")


def fit() -> None:
    """Print the quantiles of what random configs of the chosen tasks gain after some share of their training, in units."""
    rng = np.random.default_rng(0)
    gains: dict[float, list[np.ndarray]] = {share: [] for share in SHARES}
    for task in tasks_of(slice(None, None, 4))[::2]:
        scores = np.array([task.curve(draw(task.suggest, rng)) for _ in range(FITTED_CONFIGS)], dtype=float)
        curves = Scale(objective_of(task), maximize=True).of(scores)
        spread = float(np.subtract(*np.percentile(curves[:, -1], [75, 25])))
        for share, of_tasks in gains.items():
            epochs = min(max(FEWEST_EPOCHS, round(share * task.epochs)), task.epochs - 1)
            gained = [(curve[-1] - curve[epochs - 1]) / unit_of(curve[:epochs], spread) for curve in curves]
            of_tasks.append(np.quantile(gained, np.linspace(0.01, 0.99, 60)))
    for share, of_tasks in gains.items():
        values = ", ".join(f"{value:.2f}" for value in np.quantile(np.concatenate(of_tasks), QUANTILES))
        print(f"    {share:.3f}: ({values}),")


def snapshots(contender: Contender, task: Task) -> list[Snapshot]:
    """Run one search in simulated time; return its trials after each of `BUDGETS`."""
    curves: dict[int, np.ndarray] = {}
    trained: dict[int, int] = {}
    events: list[tuple[int, int, int]] = []
    marks: list[Snapshot] = []

    def start(now: int, worker: int) -> None:
        number, params = contender.ask()
        if number not in curves:
            curves[number], trained[number] = np.asarray(task.curve(params), dtype=float), 0
        heapq.heappush(events, (now + 1, worker, number))

    for worker in range(WORKERS):
        start(0, worker)
    while len(marks) < len(BUDGETS):
        if events[0][0] > BUDGETS[len(marks)] * task.epochs / WORKERS:
            marks.append([(curve, trained[number]) for number, curve in curves.items()])
            continue
        now, worker, number = heapq.heappop(events)
        trained[number] += 1
        continues = contender.report(number, trained[number], float(curves[number][trained[number] - 1]))
        if continues and trained[number] < task.epochs:
            heapq.heappush(events, (now + 1, worker, number))
        else:
            start(now, worker)
    return marks


def judged(snapshot: Snapshot, task: Task) -> list[dict[str, float]]:
    """Compare forecasts with the ends: whether the interval holds it, its width, and the errors of median and last value.

    Widths and errors are in units of the range from the 10th to the 90th percentile of the ends of all trials.
    """
    seen_curves = [curve[:seen].tolist() for curve, seen in snapshot]
    ends = ExpectedEnds(seen_curves, task.epochs, objective_of(task), maximize=True)
    unfinished = [(curve, seen) for curve, seen in snapshot if FEWEST_EPOCHS <= seen < task.epochs]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(unfinished))[:MOST_TRIALS]
    scale = float(np.subtract(*np.percentile([curve[-1] for curve, _ in snapshot], [90, 10]))) + 1e-9
    rows = []
    for curve, seen in (unfinished[i] for i in chosen):
        expected, end = ends.of(curve[:seen].tolist()), float(curve[-1])
        assert expected is not None
        rows.append(
            {
                "holds": expected.low - 1e-6 <= end <= expected.high + 1e-6,
                "width": (expected.high - expected.low) / scale,
                "error": abs(expected.middle - end) / scale,
                "error_of_last": abs(curve[seen - 1] - end) / scale,
                "share": seen / task.epochs,
            }
        )
    return rows


def summary(frame: pd.DataFrame, by: Sequence[str]) -> list[dict[str, Any]]:
    """Coverage, median width and mean errors of each group."""
    groups = frame.groupby(list(by))
    table = groups.agg(
        forecasts=("holds", "size"),
        coverage=("holds", "mean"),
        width=("width", "median"),
        error=("error", "mean"),
        error_of_last=("error_of_last", "mean"),
    )
    return [{str(key): value for key, value in row.items()} for row in table.reset_index().round(3).to_dict("records")]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    if options.fit:
        fit()
        return
    fitted = {task.name for task in tasks_of(slice(None, None, 4))[::2]}
    rows: list[dict[str, Any]] = []
    for task in tasks_of(slice(None, None, 5)):
        for searcher, make in SEARCHERS.items():
            for seed in range(options.seeds):
                for budget, snapshot in zip(BUDGETS, snapshots(make(task, seed), task), strict=True):
                    about = {"task": task.name, "family": task.family, "searcher": searcher, "budget": budget}
                    about["chosen_on"] = task.name in fitted
                    rows += [about | row for row in judged(snapshot, task)]
        print(summary(pd.DataFrame([row for row in rows if row["task"] == task.name]), ["task"]), flush=True)
    frame = pd.DataFrame(rows)
    frame["share"] = pd.cut(frame["share"], [0, 0.12, 0.35, 1], labels=["to 12 %", "to 35 %", "above"]).astype(str)
    keys = [
        ["chosen_on"],
        ["family"],
        ["family", "chosen_on"],
        ["searcher", "budget"],
        ["share"],
        ["task", "chosen_on"],
    ]
    results = {"seeds": options.seeds, "tables": {" and ".join(by): summary(frame, by) for by in keys}}
    (RESULTS / "expected_ends.json").write_text(json.dumps(results, indent=1) + "\n")
    for table in results["tables"].values():
        print(pd.DataFrame(table).to_string(index=False))


if __name__ == "__main__":
    main()
