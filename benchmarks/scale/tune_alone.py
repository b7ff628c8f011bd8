"""Measures what Ray Tune alone costs in a search of thousands of trials: its controller, a searcher that counts, its FIFO scheduler.

The workers are those of `winnow`'s own measurement (`benchmarks/scale/simulated_actors.py`). Each trial ends itself after as many
epochs as trials have on average under successive halving.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from typing import Any
from unittest.mock import patch

from ray import tune
from ray.tune.execution import tune_controller
from ray.tune.search import Searcher

from benchmarks.scale.simulated_actors import SimulatedActors
from winnow.search.ray_backend.session import ray_session

EPOCHS = (1, 1, 1, 3, 3, 3, 3, 9, 9, 18)  # 5.1 on average
FIGURES = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "wall_seconds")


class CountingSearcher(Searcher):
    """Suggests trials that hold nothing but their length."""

    def __init__(self, num_trials: int) -> None:
        super().__init__(metric="validation_accuracy", mode="max")
        self.num_trials = num_trials
        self.num_suggested = 0

    def suggest(self, trial_id: str) -> Any:
        if self.num_suggested == self.num_trials:
            return Searcher.FINISHED
        epochs = EPOCHS[self.num_suggested % len(EPOCHS)]
        self.num_suggested += 1
        return {"assignment": json.dumps({"epochs": epochs})}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Do nothing."""

    def save(self, checkpoint_path: str) -> None:
        """Do nothing."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing."""


def run_tune_alone(num_trials: int, num_slots: int) -> dict[str, Any]:
    """Run Tune on simulated workers, and return what it cost."""
    num_results = 0

    def curve(assignment: dict[str, Any], epoch: int, seconds: float) -> dict[str, Any]:
        nonlocal num_results
        num_results += 1
        return {**dict.fromkeys(FIGURES, 1 / epoch), "epoch": epoch, "last": epoch >= assignment["epochs"]}

    SimulatedActors.num_slots = num_slots
    SimulatedActors.curve = staticmethod(curve)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_slots)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    with (
        ray_session(num_cpus=1),
        tempfile.TemporaryDirectory() as storage,
        patch.object(tune_controller, "RayActorManager", SimulatedActors),
    ):
        began, cpu = time.monotonic(), time.process_time()
        tune.Tuner(
            tune.with_resources(lambda config: None, {"cpu": 1}),
            tune_config=tune.TuneConfig(num_samples=-1, search_alg=CountingSearcher(num_trials), reuse_actors=True),
            run_config=tune.RunConfig(storage_path=storage, verbose=0, stop=lambda trial_id, result: result["last"]),
        ).fit()
        cpu, wall = time.process_time() - cpu, time.monotonic() - began
    return {
        "results": num_results,
        "CPU, s": round(cpu, 1),
        "wall, s": round(wall, 1),
        "CPU of a result, ms": round(1000 * cpu / num_results, 2),
        "driver memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
