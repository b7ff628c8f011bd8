"""Samplers on real images: the ledger of production with four asynchronous workers in simulated time, and trainings that are real.

    python -m benchmarks.search_quality.samplers digits --seeds 5
    python -m benchmarks.search_quality.samplers cifar10-cnn --set data.name=parquet --set data.path=DATA --set data.limit=5000 --set epochs=9 --name cifar

An epoch of any trial costs one unit on one worker, as on LCBench (`simulation.py`), so that neither the load of this machine nor Ray
plays a part. Told is, after the cost of 5, 10 and 20 full trainings, the validation accuracy that the incumbent has when it is trained to
its end; the incumbent is the trial with the best accuracy seen at the last epoch it has reached. What is in the file is not run again.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks import RESULTS
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source, describe_data, load_data
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.settings import settings_for
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.provenance import hardware, versions
from winnow.search.storage.run_folder import create
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Assignment
from winnow.spaces import catalog
from winnow.spaces.space import Space

BUDGETS = (5, 10, 20)
NUM_WORKERS = 4


@dataclass
class Run:
    """One trial: `seen` are the accuracies that the ledger has received, `report` is the next one, at the end of its epoch."""

    assignment: Assignment
    reports: Iterator[dict[str, Any]]
    report: dict[str, Any] = field(default_factory=dict)
    seen: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--samplers", nargs="+", default=["tpe", "forecast"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--name", help="of the file in benchmarks/results; default: the space")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    space = catalog.load(asked.space, asked.overrides)
    data = load_data(space, Source(Path("data")))
    path = RESULTS / f"samplers-{asked.name or asked.space}.jsonl"
    done = {(run["sampler"], run["seed"]) for run in read_json_lines(path)}
    lines = JsonLines(path)
    about = {"hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
    for seed in range(asked.seeds):
        for sampler in asked.samplers:
            if (sampler, seed) not in done:
                marks = search(space, data, sampler, seed)
                lines.append({"sampler": sampler, "seed": seed, "marks": marks, "overrides": asked.overrides, **about})
                print(sampler, seed, marks, flush=True)
    lines.close()
    print(table(list(read_json_lines(path)), asked.samplers))


def search(space: Space, data: ImageData, sampler: str, seed: int) -> list[dict[str, Any]]:
    """Run one search and return its state at each budget: `accuracy` of the incumbent at its end, `best_completed` of those trained to the end by then."""
    settings = settings_for(space, trials=100_000, sampler=sampler, seed=seed)
    marks: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        facts = describe_data(data, space, seed)
        study = {"schema_version": 1, "space": space.tree, "settings": settings.to_dict(), "data": facts}
        folder = create(Path(temporary), None, "run", study)
        ledger = Ledger(folder, space, settings, data.image_shape)
        simulated = Simulation(ledger, data, Job(str(folder.checkpoints), "cpu", threads=1, seed=settings.seed))
        for budget in BUDGETS:
            simulated.go_on_until(budget * space.max_epochs / NUM_WORKERS)
            marks.append(simulated.mark(Job(temporary, "cpu", threads=1, seed=settings.seed)))
        ledger.close()
    return marks


class Simulation:
    """Each event is the end of an epoch; its training is done when the epoch begins."""

    def __init__(self, ledger: Ledger, data: ImageData, job: Job) -> None:
        self.ledger = ledger
        self.data = data
        self.job = job
        self.runs: dict[int, Run] = {}
        self.events: list[tuple[int, int, int]] = []  # (time at which the epoch ends, worker, trial)
        self.finals: dict[int, float] = {}
        for worker in range(NUM_WORKERS):
            self._start(0, worker)

    def go_on_until(self, end: float) -> None:
        while self.events[0][0] <= end:
            now, worker, number = heapq.heappop(self.events)
            run = self.runs[number]
            if "status" not in run.report:
                diverged = run.report["diverged"]
                run.seen.append(0.0 if diverged else run.report["validation_accuracy"])
            if self.ledger.record(number, run.report):
                self._train(now, worker, number)
            else:
                run.reports.close()
                self._start(now, worker)

    def mark(self, job: Job) -> dict[str, Any]:
        """`job` names a folder of its own: the incumbent is trained to its end out of the search's sight."""
        started = {number: run for number, run in self.runs.items() if run.seen}
        number = max(started, key=lambda each: started[each].seen[-1])
        if number not in self.finals:
            reports = list(trial_reports(replace(started[number].assignment, recorded=0), self.data, job))
            self.finals[number] = 0.0 if reports[-1].get("diverged", True) else reports[-1]["validation_accuracy"]
        completed = [run.seen[-1] for run in started.values() if len(run.seen) == self.ledger.settings.max_epochs]
        facts = {"best_completed": max(completed, default=None), "completed": len(completed)}
        return {"accuracy": self.finals[number], **facts, "trials": len(self.runs)}

    def _start(self, now: int, worker: int) -> None:
        assignment = self.ledger.ask()
        assert assignment is not None  # so many trials are asked for that there is always one more
        reports = trial_reports(assignment, self.data, self.job)
        run = self.runs.setdefault(assignment.number, Run(assignment, reports))
        run.reports = reports
        self._train(now, worker, assignment.number)

    def _train(self, now: int, worker: int, number: int) -> None:
        self.runs[number].report = next(self.runs[number].reports)
        heapq.heappush(self.events, (now + 1, worker, number))


def table(runs: Sequence[dict[str, Any]], samplers: Sequence[str]) -> str:
    """Over the seeds that all samplers have; `more` is the paired difference to the first of them."""
    found = {(run["sampler"], run["seed"]): run["marks"] for run in runs}
    seeds = [seed for seed in sorted({seed for _, seed in found}) if all((name, seed) in found for name in samplers)]
    rows = [
        "| full trainings | sampler | accuracy of the incumbent, % | more than "
        f"{samplers[0]}, points | best completed, % | trials | completed | n |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for k, budget in enumerate(BUDGETS):
        for name in samplers:
            marks = [found[name, seed][k] for seed in seeds]
            more = [
                m["accuracy"] - found[samplers[0], seed][k]["accuracy"] for m, seed in zip(marks, seeds, strict=True)
            ]
            best = [m["best_completed"] for m in marks if m["best_completed"] is not None]
            rows.append(
                f"| {budget} | {name} | {spread([m['accuracy'] for m in marks])} "
                f"| {spread(more) if name != samplers[0] else ''} | {spread(best)} ({len(best)}) "
                f"| {mean(m['trials'] for m in marks):.0f} | {mean(m['completed'] for m in marks):.1f} | {len(seeds)} |"
            )
    return "\n".join(rows)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation, in percent."""
    if not values:
        return "-"
    return f"{100 * mean(values):.2f}" + (f" ± {100 * stdev(values):.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
