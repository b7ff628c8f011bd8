"""Peer (a): the public Ray Tune + PyTorch CIFAR wiring, as its tutorial writes it, over our space.

`OptunaSearch` + `ASHAScheduler` with their defaults, default loggers, no actor reuse; a DataLoader in every trial.

    python -m benchmarks.peers.ray_tune DATA.npz SECONDS OUT.jsonl
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.peers.common import train
from benchmarks.peers.space import load_space


def trainable(config: dict[str, Any], data: str) -> None:
    train(config["raw"], Path(data), lambda epoch, accuracy: tune.report({"accuracy": accuracy, "epoch": epoch}))


class Log(tune.Callback):
    """One line per result, with its time; for the benchmark, not part of the wiring."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        record = {"time": time.time(), "trial": trial.trial_id}
        record |= {"epoch": result["epoch"], "accuracy": result["accuracy"]}
        with self.path.open("a") as lines:
            lines.write(json.dumps(record) + "\n")


def main(data: str, seconds: float, out: str) -> None:
    space = load_space()
    log = Log(Path(out))
    tuner = tune.Tuner(
        tune.with_parameters(trainable, data=str(Path(data).resolve())),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            time_budget_s=seconds,
            search_alg=OptunaSearch(space=DefineByRun(space), metric="accuracy", mode="max"),
            scheduler=ASHAScheduler(metric="accuracy", mode="max", max_t=space.max_epochs),
        ),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(), callbacks=[log], verbose=1),
    )
    tuner.fit()


class DefineByRun:
    """OptunaSearch's define-by-run space: suggests, and returns what is constant."""

    def __init__(self, space: Any) -> None:
        self.space = space

    def __call__(self, trial: Any) -> dict[str, Any]:
        return {"raw": self.space.config(self.space.suggest(trial)).model_dump(mode="json")}


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
