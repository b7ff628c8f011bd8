"""Measures how well `search.stop_when` ends a search, in hindsight.

    python -m benchmarks.search_quality.stopping [--seeds 3]

Searches of 45 full trainings with 4 workers in simulated time, on every recorded task and every seventh of LCBench. What a search is
worth after some time is the best score so far less a price for each full training. The price is a share of what the whole search
gained over the median config: 0.2, 0.5, 1 and 2 %. Reported are the searches that are within 15 % of what the best moment to stop
was worth, and what is lost on average, for the rule and for fixed numbers of trainings. Writes benchmarks/results/stopping.json.
Twenty minutes on one core.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks import RESULTS
from benchmarks.search_quality.contenders import Contender, Forecasting, Stopping
from benchmarks.search_quality.tasks import Task, digits_tasks, lcbench_tasks, recorded_tasks
from winnow.search.settings import settings_for
from winnow.search.study.gain_rule import SECONDS_PER_HOUR, GainRule
from winnow.spaces import catalog

BUDGET, WORKERS = 45, 4
PRICES = (0.002, 0.005, 0.01, 0.02)
TOLERANCE = 0.15
FIXED = (4, 8, 16, 24, 32)
SEARCHERS: dict[str, Callable[[Task, int], Contender]] = {
    "forecast": Forecasting,
    "random + ASHA": lambda task, seed: Stopping(task, seed, "random"),
}


@dataclass(frozen=True)
class History:
    """One search: after each epoch the cost so far, in full trainings, and the best score of a completed trial [epochs]."""

    cost: np.ndarray
    best: np.ndarray
    median: float

    def worth(self, price: float) -> np.ndarray:
        """The best score less the price of the trainings, after each epoch; minus infinity before a trial has completed."""
        return np.where(np.isnan(self.best), -np.inf, self.best - price * self.cost)


def search(contender: Contender, task: Task) -> History:
    """Run one search in simulated time, an epoch of any trial costing the same."""
    curves: dict[int, np.ndarray] = {}
    done: dict[int, int] = {}
    events: list[tuple[int, int, int]] = []
    best, history = np.nan, []

    def start(now: int, worker: int) -> None:
        number, params = contender.ask()
        if number not in curves:  # else it was paused
            curves[number] = task.curve(params)
        heapq.heappush(events, (now + 1, worker, number))

    for worker in range(WORKERS):
        start(0, worker)
    while len(history) < BUDGET * task.epochs:
        now, worker, number = heapq.heappop(events)
        done[number] = done.get(number, 0) + 1
        value = float(curves[number][done[number] - 1])
        goes_on = contender.report(number, done[number], value)
        if done[number] == task.epochs:
            best = float(np.fmax(best, value))
        history.append(best)
        if goes_on and done[number] < task.epochs:
            heapq.heappush(events, (now + 1, worker, number))
        else:
            start(now, worker)
    return History(np.arange(1, len(history) + 1) / task.epochs, np.array(history), task.median)


def stop_by_rule(history: History, price: float) -> int:
    """The index of the epoch after which `GainRule` ends the search; the last one if it does not. An hour is a full training."""
    settings = settings_for(catalog.load("digits"), stop_when=f"{price!r} per hour")
    rule = GainRule(settings)
    hours = float(history.cost[0])
    for index, best in enumerate(history.best.tolist()):
        rule.note_epoch({"wall_seconds": hours * SECONDS_PER_HOUR})
        if not np.isnan(best):
            rule.note_completed(best)
        if rule.reached:
            return index
    return len(history.best) - 1


def stop_after(history: History, trainings: float) -> int:
    """The first epoch after so many trainings by which a trial has completed."""
    return int(np.flatnonzero((history.cost >= trainings) & ~np.isnan(history.best))[0])


def judged(histories: list[History], share: float, rule: Callable[[History, float], int]) -> dict[str, float]:
    """How the searches ended by a rule compare with the best moment to stop, at a price that is a share of the gain."""
    lost, stopped, best_moment = [], [], []
    for history in histories:
        gain = float(np.nanmax(history.best)) - history.median
        if gain <= 0:
            continue
        worth = history.worth(share * gain)
        index = rule(history, share * gain)
        lost.append(float((worth.max() - worth[index]) / (worth.max() - history.median)))
        stopped.append(float(history.cost[index]))
        best_moment.append(float(history.cost[worth.argmax()]))
    return {
        "searches": len(lost),
        "within": float(np.mean([each <= TOLERANCE for each in lost])),
        "median_lost": float(np.median(lost)),
        "median_stop": float(np.median(stopped)),
        "median_best_moment": float(np.median(best_moment)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    tasks = [*recorded_tasks(), *digits_tasks(), *lcbench_tasks()[::7]]
    rows: list[dict[str, Any]] = []
    for name, make in SEARCHERS.items():
        histories = [search(make(task, seed), task) for task in tasks for seed in range(options.seeds)]
        rules: dict[str, Callable[[History, float], int]] = {"stop_when": stop_by_rule}
        rules |= {
            f"{count} trainings": lambda history, price, count=count: stop_after(history, count) for count in FIXED
        }
        for rule, stop in rules.items():
            for share in PRICES:
                rows.append({"searcher": name, "rule": rule, "price": share, **judged(histories, share, stop)})
                print(rows[-1], flush=True)
    result = {"seeds": options.seeds, "tasks": [task.name for task in tasks], "rows": rows}
    (RESULTS / "stopping.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
