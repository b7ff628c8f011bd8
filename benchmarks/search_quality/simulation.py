"""Asynchronous workers in simulated time: an epoch of any trial costs one unit on one worker, suggestions cost nothing."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.search_quality.contenders import Contender
from benchmarks.search_quality.tasks import Task


@dataclass
class Run:
    """One trial: `curve` [epochs] is what it would give if trained in full, `seen` what the searcher has received."""

    curve: np.ndarray
    seen: list[float] = field(default_factory=list)


def simulate(
    contender: Contender,
    task: Task,
    budgets: Sequence[int],
    num_workers: int = 4,
    noise: float = 0.0,
    seed: int = 0,
) -> list[tuple[float, int]]:
    """Run one search in simulated time.

    Args:
        contender: The searcher.
        task: The problem.
        budgets: When to look at the incumbent, in full trainings, ascending.
        num_workers: How many trials train at the same time.
        noise: The standard deviation of what is added to each score that the searcher and the user see.
        seed: Of that noise.

    Returns:
        At each budget: the score of the incumbent if trained in full, and the number of trials. The incumbent is what a
        user would take: the trial with the best score seen so far at the last epoch it has reached.
    """
    rng = np.random.default_rng([seed, 1])
    runs: dict[int, Run] = {}
    events: list[tuple[int, int, int]] = []  # (time at which the epoch ends, worker, trial)

    def start(now: int, worker: int) -> None:
        number, params = contender.ask()
        if number not in runs:
            runs[number] = Run(task.curve(params))
        heapq.heappush(events, (now + 1, worker, number))

    for worker in range(num_workers):
        start(0, worker)
    marks: list[tuple[float, int]] = []
    while len(marks) < len(budgets):
        if events[0][0] > budgets[len(marks)] * task.epochs / num_workers:
            seen = [run for run in runs.values() if run.seen]
            best = max(seen, key=lambda run: run.seen[-1]) if seen else next(iter(runs.values()))
            marks.append((float(best.curve[-1]), len(runs)))
            continue
        now, worker, number = heapq.heappop(events)
        run = runs[number]
        value = float(run.curve[len(run.seen)]) + (rng.normal(0, noise) if noise else 0.0)
        run.seen.append(value)
        going_on = contender.report(number, len(run.seen), value)
        if going_on and len(run.seen) < task.epochs:
            heapq.heappush(events, (now + 1, worker, number))
        else:
            start(now, worker)
    return marks
