"""A search of thousands of trials on hundreds of slots, without training: what does the driver cost, and how does it grow?

    python -m benchmarks.scale.scale [--trials 10000] [--slots 512] [--space digits] [--sampler tpe] [--tune-alone]

Real: `winnow.search.ray_backend.tune.run_search` with Tune's controller, the searcher and the scheduler that it calls, the ledger, ASHA, Optuna with its
journal, epochs.jsonl, the replay at a resume, the tables and the HTML report. Simulated: workers and trainings (`benchmarks/scale/simulated_actors.py`:
synthetic curves and epoch times, in simulated time). Costs are CPU seconds of this process, so other programs on the machine hardly
change them; each row is the mean since the row before. Prints Markdown and writes benchmarks/results/scale-<sampler>-<trials>.json.

`--tune-alone` is the share of Ray: the same controller and workers, trials with as many epochs, and nothing of Winnow
(`benchmarks/scale/tune_alone.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml
from ray.tune.execution import tune_controller

from benchmarks import RESULTS
from benchmarks.scale.simulated_actors import SimulatedActors
from benchmarks.scale.tune_alone import run_tune_alone
from winnow import reports
from winnow.search.ray_backend.session import ray_session
from winnow.search.ray_backend.shared_data import Job, SharedData
from winnow.search.ray_backend.tune import LedgerScheduler, Resources, StudySearcher, run_search
from winnow.search.settings import settings_for
from winnow.search.storage.provenance import hardware, versions
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.ledger import Ledger
from winnow.spaces import catalog

MARKS = (50, 500, 1000, 2000, 5000, 10000)  # trials at which costs are noted


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=512)
    parser.add_argument("--space", default="digits")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--tune-alone", action="store_true")
    options = parser.parse_args()
    if options.tune_alone:
        raw = {"options": vars(options), **run_tune_alone(options.trials, options.slots)}
        print("\n".join(f"{name}: {value}" for name, value in raw.items()))
        raw |= {"load": os.getloadavg(), "hardware": hardware(), "versions": versions()}
        (RESULTS / f"scale-tune-alone-{options.trials}.json").write_text(json.dumps(raw, indent=2) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(RunFolder(Path(folder, "scale")), options)
    print(
        "| trials ended | a suggestion, ms | a result: Winnow, ms | Tune, ms | driver memory, MB |\n|---|---|---|---|---|"
    )
    for row in figures["growth"]:
        print(
            f"| {row['trials']} | {row['ask_ms']:.1f} | {row['record_ms']:.2f} | {row['tune_ms']:.2f} | {row['memory_mb']} |"
        )
    print("\n".join(f"{name}: {value}" for name, value in figures.items() if name != "growth"))
    raw = {"options": vars(options), **figures, "load": os.getloadavg(), "hardware": hardware(), "versions": versions()}
    (RESULTS / f"scale-{options.sampler}-{options.trials}.json").write_text(json.dumps(raw, indent=2) + "\n")


def measure(folder: RunFolder, options: argparse.Namespace) -> dict[str, Any]:
    space = catalog.load(options.space)
    # Simulated workers give no sign of life between epochs.
    settings = settings_for(space, trials=options.trials, sampler=options.sampler, trial_timeout=1e6)
    folder.checkpoints.mkdir(parents=True)
    folder.predictions.mkdir()
    folder.study.write_text(yaml.safe_dump(study_of(space, settings), sort_keys=False))
    image_shape = (1, 8, 8)
    ledger = Ledger(folder, space, settings, image_shape)
    marks = sorted({*(mark for mark in MARKS if mark < options.trials), options.trials})
    with ray_session(num_cpus=1):
        began = time.monotonic()
        costs = simulate(ledger, options.slots, marks)
        wall_seconds = time.monotonic() - began
    cpu_seconds = time.process_time() - costs.began
    figures: dict[str, Any] = {
        "growth": costs.growth,
        "results": costs.num_results,
        "CPU, s": round(cpu_seconds, 1),
        "wall, s": round(wall_seconds, 1),
        "waits for the disk": costs.num_fsyncs,
        "waiting for the disk, s": round(costs.fsync_seconds, 1),
        "results a second of CPU": round(costs.num_results / cpu_seconds),
        "results a second of CPU and disk": round(costs.num_results / (cpu_seconds + costs.fsync_seconds)),
        "results a second": round(costs.num_results / wall_seconds),
    }
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


class Costs:
    """CPU seconds of this process: in what Winnow does when Tune calls it, and in all; noted at marks."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {"ask": [], "record": []}
        self.growth: list[dict[str, Any]] = []
        self.num_results = 0
        self.num_fsyncs, self.fsync_seconds = 0, 0.0
        self.began = self.mark = time.process_time()

    @contextmanager
    def measured(self, marks: Sequence[int]) -> Iterator[None]:
        """Within, every suggestion, every result and every wait for the disk is timed."""
        suggest, judge, fsync = StudySearcher.suggest, LedgerScheduler.on_trial_result, os.fsync

        def timed_suggest(searcher: StudySearcher, trial_id: str) -> Any:
            began = time.thread_time()  # that of the process takes long where there are many threads
            suggestion = suggest(searcher, trial_id)
            if isinstance(suggestion, dict):
                self.spent["ask"].append(time.thread_time() - began)
            return suggestion

        def timed_fsync(handle: int) -> None:
            began = time.monotonic()
            fsync(handle)
            self.num_fsyncs += 1
            self.fsync_seconds += time.monotonic() - began

        def timed_judge(scheduler: LedgerScheduler, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            began = time.thread_time()
            verdict = judge(scheduler, controller, trial, result)
            self.spent["record"].append(time.thread_time() - began)
            self.num_results += 1
            self._note(scheduler.ledger.num_ended, marks)
            return verdict

        with (
            patch.object(StudySearcher, "suggest", timed_suggest),
            patch.object(LedgerScheduler, "on_trial_result", timed_judge),
            patch.object(os, "fsync", timed_fsync),
        ):
            yield

    def _note(self, num_ended: int, marks: Sequence[int]) -> None:
        if num_ended not in marks or num_ended <= (self.growth[-1]["trials"] if self.growth else 0):
            return
        now, ask, record = time.process_time(), sum(self.spent["ask"]), sum(self.spent["record"])
        self.growth.append(
            {
                "trials": num_ended,
                "ask_ms": 1000 * ask / max(1, len(self.spent["ask"])),
                "record_ms": 1000 * record / len(self.spent["record"]),
                "tune_ms": 1000 * (now - self.mark - ask - record) / len(self.spent["record"]),
                "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
        print(self.growth[-1], file=sys.stderr, flush=True)
        self.mark = now
        for values in self.spent.values():
            values.clear()


def simulate(ledger: Ledger, num_slots: int, marks: Sequence[int]) -> Costs:
    """The whole search, by the function that `winnow search` calls."""
    SimulatedActors.num_slots = num_slots
    SimulatedActors.curve = staticmethod(partial(made_up_report, ledger.settings.max_epochs))
    job = Job(checkpoints="", device="cpu", threads=1, seed=0)
    costs = Costs()
    with patch.object(tune_controller, "RayActorManager", SimulatedActors), costs.measured(marks):
        outcome = run_search(ledger, SharedData(None), job, Resources(1.0, 0.0), num_slots, print)
    assert outcome.bug is None
    return costs


def made_up_report(num_epochs: int, assignment: dict[str, Any], epoch: int, seconds: float) -> dict[str, Any]:
    """A learning curve whose end is a function of the config, so that a sampler has something to find."""
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
        "wall_seconds": seconds,
        "images_per_second": 1000 / seconds,
        "diverged": False,
        "last": epoch == num_epochs,
        "weights_epoch": epoch,
        "node": f"node-{assignment['number'] % 64}",
        "device": "simulated",
    } | ({"num_parameters": 10_000, "multiply_adds": 100_000} if epoch == 1 else {})


def study_of(space: Any, settings: Any) -> dict[str, Any]:
    """The study.yaml of a real run, of data and devices that are not there."""
    from winnow.search.data.source import Source, describe_data, load_data
    from winnow.search.operations.searching import study_record
    from winnow.search.resources.plan import ResourcePlan

    data = describe_data(load_data(space, Source(Path("data"))), space, settings.seed)
    plan = ResourcePlan("cpu", 512, 1.0, 0.0, 1, "simulated")
    return {**study_record(space, settings, data, Source(Path("data")), plan, None), "name": "scale"}


if __name__ == "__main__":
    main()
