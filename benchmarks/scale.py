"""A search of thousands of trials on hundreds of slots, without training: what does Winnow's own driver cost, and how does it grow?

    python -m benchmarks.scale [--trials 10000] [--slots 512] [--space digits] [--sampler tpe]

Real: the searcher and the scheduler that Tune calls, the ledger, ASHA, Optuna with its journal, epochs.jsonl, the replay at a resume, the
tables and the HTML report. Simulated: the trainings (synthetic curves and epoch times, in simulated time) and Tune's own controller, which
calls searcher and scheduler; what Tune costs itself is measured by `benchmarks.orchestration`. Costs are CPU seconds of this process, so
other programs on the machine hardly change them. Prints Markdown and writes benchmarks/results/scale-<sampler>.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

import reports
from search.folder import RunFolder
from search.ledger import Ledger
from search.operations import _study
from search.provenance import hardware, versions
from search.settings import settings_for
from search.tuner import Brakes, LedgerScheduler, StudySearcher
from spaces import catalog

RESULTS = Path(__file__).resolve().parent / "results"
MARKS = (50, 500, 1000, 2000, 5000, 10000)  # trials at which costs are noted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=512)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--sampler", default="tpe")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(RunFolder(Path(folder, "scale")), options)
    print("| trials | ask, ms | result, ms | driver memory, MB |\n|---|---|---|---|")
    for row in figures["growth"]:
        print(f"| {row['trials']} | {row['ask_ms']:.1f} | {row['record_ms']:.2f} | {row['memory_mb']} |")
    print("\n".join(f"{name}: {value}" for name, value in figures.items() if name != "growth"))
    raw = {"options": vars(options), **figures, "load": os.getloadavg(), "hardware": hardware(), "versions": versions()}
    (RESULTS / f"scale-{options.sampler}.json").write_text(json.dumps(raw, indent=2) + "\n")


def measure(folder: RunFolder, options: argparse.Namespace) -> dict[str, Any]:
    space = catalog.load(options.space)
    settings = settings_for(space, trials=options.trials, sampler=options.sampler)
    folder.checkpoints.mkdir(parents=True)
    folder.predictions.mkdir()
    folder.study.write_text(yaml.safe_dump(study_of(space, settings), sort_keys=False))
    image_shape = (1, 8, 8)
    ledger = Ledger(folder, space, settings, image_shape)
    started = time.process_time()
    growth, num_results = simulate(ledger, options.slots, settings.max_epochs)
    figures: dict[str, Any] = {"growth": growth, "results": num_results, "cpu_seconds": time.process_time() - started}
    ledger.close()
    figures |= {f"{path.name}, MB": round(path.stat().st_size / 1e6, 1) for path in (folder.journal, folder.epochs)}
    started = time.process_time()
    Ledger(folder, space, settings, image_shape).close()
    figures["replay at a resume, s"] = round(time.process_time() - started, 2)
    started = time.process_time()
    reports.write(folder.path)
    figures["report, s"] = round(time.process_time() - started, 2)
    figures["report, MB"] = {path.name: round(path.stat().st_size / 1e6, 2) for path in folder.report.iterdir()}
    return figures


def simulate(ledger: Ledger, num_slots: int, num_epochs: int) -> tuple[list[dict[str, Any]], int]:
    """Costs since the mark before, and the number of results. Slots ask in the order in which simulated time frees them."""
    brakes = Brakes(ledger, print)
    searcher, scheduler = StudySearcher(ledger, brakes, num_slots), LedgerScheduler(ledger, brakes)
    rng = random.Random(0)
    ends: list[tuple[float, int, Any, int]] = []  # (simulated time, tie breaker, Tune's trial, epoch)
    asks: list[float] = []
    records: list[float] = []
    growth, num_results = [], 0

    def start(now: float) -> None:
        name = f"slot-{ledger.num_asked}"
        began = time.process_time()
        config = searcher.suggest(name)
        if isinstance(config, dict):
            asks.append(time.process_time() - began)
            trial = SimpleNamespace(trial_id=name, config=config, speed=rng.lognormvariate(0, 0.5))
            heapq.heappush(ends, (now + trial.speed, ledger.num_asked, trial, 1))

    for _ in range(num_slots):
        start(0.0)
    while ends:
        now, order, trial, epoch = heapq.heappop(ends)
        report = made_up_report(trial, epoch, num_epochs)
        began = time.process_time()
        going_on = scheduler.on_trial_result(None, trial, report) == scheduler.CONTINUE
        records.append(time.process_time() - began)
        num_results += 1
        if going_on:
            heapq.heappush(ends, (now + trial.speed, order, trial, epoch + 1))
        else:
            searcher.on_trial_complete(trial.trial_id)
            start(now)
        if ledger.num_ended in MARKS and ledger.num_ended > (growth[-1]["trials"] if growth else 0):
            growth.append(
                {
                    "trials": ledger.num_ended,
                    "ask_ms": 1000 * sum(asks) / max(1, len(asks)),
                    "record_ms": 1000 * sum(records) / len(records),
                    "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
            )
            print(growth[-1], file=sys.stderr)
            asks.clear()
            records.clear()
    return growth, num_results


def made_up_report(trial: Any, epoch: int, num_epochs: int) -> dict[str, Any]:
    """A learning curve whose end is a function of the config, so that a sampler has something to find."""
    assignment = json.loads(trial.config["assignment"])
    config = assignment["config"]
    lr = math.log10(config["optimizer"]["lr"])
    best = 0.95 - 0.05 * (lr + 2) ** 2 - 0.02 * random.Random(assignment["seed"]).random()
    accuracy = max(0.1, best) * (1 - math.exp(-epoch / (0.2 * num_epochs)))
    return {
        "epoch": epoch,
        "train_loss": 1.1 - accuracy,
        "train_accuracy": accuracy,
        "validation_loss": 1.2 - accuracy,
        "validation_accuracy": accuracy,
        "lr": config["optimizer"]["lr"],
        "wall_seconds": trial.speed,
        "images_per_second": 1000 / trial.speed,
        "diverged": False,
        "last": epoch == num_epochs,
        "weights_epoch": epoch,
        "node": f"node-{hash(trial.trial_id) % 64}",
        "device": "simulated",
    } | ({"num_parameters": 10_000, "multiply_adds": 100_000} if epoch == 1 else {})


def study_of(space: Any, settings: Any) -> dict[str, Any]:
    """The study.yaml of a real run, of data and devices that are not there."""
    from search.devices import Plan
    from search.operations import Source, load_data

    data = load_data(space, Source(Path()))
    plan = Plan("cpu", 512, 1.0, 0.0, 1, "simulated")
    return {**_study(space, settings, data, Source(Path()), plan), "name": "scale"}


if __name__ == "__main__":
    main()
