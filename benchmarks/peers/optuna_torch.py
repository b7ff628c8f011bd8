"""Peer (b): the public Optuna + PyTorch wiring, as its example writes it, over our space.

One process, `study.optimize`, the default sampler and pruner, a DataLoader in every trial, all CPU threads.

    python -m benchmarks.peers.optuna_torch DATA.npz SECONDS OUT.jsonl
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import optuna

from benchmarks.peers.common import train
from benchmarks.peers.space import load_space


def main(data: str, seconds: float, out: str) -> None:
    space = load_space()
    started = time.time()

    def objective(trial: optuna.Trial) -> float:
        accuracies: list[float] = []

        def report(epoch: int, accuracy: float) -> None:
            record = {"time": time.time(), "trial": trial.number, "epoch": epoch, "accuracy": accuracy}
            with Path(out).open("a") as lines:
                lines.write(json.dumps(record) + "\n")
            accuracies.append(accuracy)
            trial.report(accuracy, epoch)
            if trial.should_prune() or time.time() - started > seconds:
                raise optuna.TrialPruned

        raw = space.config(space.suggest(trial)).model_dump(mode="json")
        train(raw, Path(data), report)
        return accuracies[-1]

    optuna.create_study(direction="maximize").optimize(objective, timeout=seconds)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
