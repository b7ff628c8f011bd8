"""Asynchronous workers in simulated time: an epoch of any trial costs one unit on one worker, suggestions cost nothing."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from contenders import Contender


@dataclass
class Run:
    """One trial: `curve` [epochs] is what it would give if trained in full, `seen` what the searcher was told."""

    curve: np.ndarray
    seen: list[float] = field(default_factory=list)


def simulate(
    contender: Contender,
    curve: Callable[[dict[str, Any]], np.ndarray],
    budgets: Sequence[int],
    num_workers: int = 4,
    noise: float = 0.0,
    seed: int = 0,
) -> list[tuple[float, int]]:
    """At each budget (in full trainings, ascending): the accuracy of the incumbent if trained in full, and the number of trials.

    The incumbent is what a user would take: the trial with the best accuracy seen so far at the last epoch it has reached.
    `noise` is the standard deviation of what is added to each accuracy that the searcher and the user see.
    """
    rng = np.random.default_rng([seed, 1])
    runs: dict[int, Run] = {}
    events: list[tuple[int, int, int]] = []  # (time at which the epoch ends, worker, trial)

    def start(now: int, worker: int) -> None:
        number, params = contender.ask()
        if number not in runs:
            runs[number] = Run(curve(params))
        heapq.heappush(events, (now + 1, worker, number))

    for worker in range(num_workers):
        start(0, worker)
    marks: list[tuple[float, int]] = []
    while len(marks) < len(budgets):
        num_epochs = len(next(iter(runs.values())).curve)
        if events[0][0] > budgets[len(marks)] * num_epochs / num_workers:
            incumbent = max((run for run in runs.values() if run.seen), key=lambda run: run.seen[-1])
            marks.append((float(incumbent.curve[-1]), len(runs)))
            continue
        now, worker, number = heapq.heappop(events)
        run = runs[number]
        value = float(run.curve[len(run.seen)]) + (rng.normal(0, noise) if noise else 0.0)
        run.seen.append(value)
        going_on = contender.report(number, len(run.seen), value)
        if going_on and len(run.seen) < num_epochs:
            heapq.heappush(events, (now + 1, worker, number))
        else:
            start(now, worker)
    return marks
