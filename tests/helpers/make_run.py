"""Writes run folders as a search leaves them, without training: real space, study and files, made-up learning curves.

By hand: `python -m tests.helpers.make_run /tmp/runs/digits` and then `winnow show /tmp/runs/digits`.
"""

from __future__ import annotations

import json
import math
import random
import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from winnow.spaces import catalog
from winnow.spaces.space import Space
from winnow.spaces.winners import may_win

Stage = Literal["empty", "first_epoch", "searching", "searched", "retrained"]
START = 1_790_000_000.0
MAX_EPOCHS = 20
RUNGS = [1, 3, 9]
NUM_TEST = 360
STATES = {"completed": TrialState.COMPLETE, "stopped": TrialState.PRUNED, "running": TrialState.RUNNING}
ERRORS = {
    "diverged": "loss became nan in epoch {epoch}",
    "out_of_memory": "CUDA out of memory: tried to allocate 512 MiB",
    "failed": "Traceback (most recent call last):\n  in loop.py\nRuntimeError: <b>worker</b> died & was not replaced",
}


@dataclass
class _Trial:
    """One simulated trial."""

    number: int
    config: dict[str, Any]
    params: dict[str, Any]
    distributions: dict[str, Any]
    status: str = "running"
    epochs: list[dict[str, Any]] = field(default_factory=list)
    started: float = START

    @property
    def num_parameters(self) -> int:
        widths = [1, *(stage["filters"] for stage in self.config["model"]["stages"])]
        return sum(9 * a * b for a, b in pairwise(widths)) + 640 * (1 + len(widths))


def make_run(
    folder: Path,
    stage: Stage = "retrained",
    trials: int = 24,
    seed: int = 0,
    torn: bool = False,
    objective: str = "validation_accuracy",
    completed: Literal["all", "baseline", "none"] = "all",
    study: dict[str, Any] | None = None,
) -> Path:
    """Write a run of `trials` trials of the digits space into `folder`, cut short at `stage`; returns the folder.

    Args:
        folder: The run folder.
        stage: Where the run was cut short.
        trials: Trials that are asked for.
        seed: Seed of the simulation.
        torn: Whether the last lines of the files are torn.
        objective: `validation_accuracy` or `validation_loss`.
        completed: Which of the trials that complete do so; the others fail at their last epoch.
        study: Further entries of study.yaml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    space = catalog.load("digits")
    (folder / "study.yaml").write_text(
        yaml.safe_dump({**_study(space, folder.name, trials, seed, objective), **(study or {})}, sort_keys=False)
    )
    if stage != "empty":
        simulated = _simulate(space, trials, seed, stage)
        for trial in simulated:
            if trial.status == "completed" and completed != "all" and (completed == "none" or trial.number):
                trial.status = "failed"
        _write_study(folder, simulated, objective)
        _write_epochs(folder, simulated)
        if stage == "retrained":
            _write_retrain(folder, space, simulated, seed)
    if torn:
        for name in ("study.journal", "epochs.jsonl", "retrain.jsonl"):
            with (folder / name).open("a") as file:
                file.write('{"op_code": 7, "phase": "sea')
    return folder


def _study(space: Space, name: str, trials: int, seed: int, objective: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "winnow_version": "0.1.0",
        "name": name,
        "created": "2026-09-21T14:13:20+00:00",
        "command": f"winnow run digits --name {name}",
        "space": space.tree,
        "settings": {
            "trials": trials,
            "max_epochs": MAX_EPOCHS,
            "objective": objective,
            "direction": _direction(objective),
            "sampler": "tpe",
            "grace_epochs": 1,
            "reduction_factor": 3.0,
            "rungs": RUNGS,
            "seed": seed,
            "time_budget_seconds": None,
            "retrain": {"top": 3, "seeds": 3},
        },
        "data": {
            "name": "digits",
            "image_shape": [1, 8, 8],
            "num_classes": 10,
            "class_names": [str(digit) for digit in range(10)],
            "num_train": 1150,
            "num_validation": 287,
            "num_test": NUM_TEST,
            "fingerprint": "0123456789abcdef",
            "summary": {
                "text": ["digits: 1,150 train, 287 validation images of 10 classes", "left out: <b>1 file</b>"],
                "image_size": [8, 8],
                "channels": 1,
                "splits": {
                    "train": {"images": 1150, "by_class": [115] * 10, "sizes": None},
                    "validation": {"images": 287, "by_class": [28] * 9 + [35], "sizes": None},
                },
                "majority_share": 0.1,
            },
        },
        "versions": {"python": "3.12.3", "torch": "2.15.0", "ray": "2.60.0", "optuna": "5.0.0"},
        "hardware": {"cpus": 2, "gpus": [], "memory_gb": 16.0},
        "git_revision": None,
    }


def _simulate(space: Space, trials: int, seed: int, stage: Stage) -> list[_Trial]:
    """Two workers take trials in turn; at each rung a trial goes on if it is in the best third of those seen there."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _, config in space.start_from_named():
        study.enqueue_trial(space.encode(config))
    ran = {"first_epoch": 2, "searching": trials // 2}.get(stage, trials)
    generator = random.Random(seed)
    seen: dict[int, list[float]] = {rung: [] for rung in RUNGS}
    clocks = [START, START]
    found = []
    for number in range(ran):
        asked = study.ask()
        raw = space.suggest(asked)
        config = space.config(raw).model_dump(mode="json")
        trial = _Trial(number, config, dict(asked.params), dict(asked.distributions))
        worker = number % 2
        trial.started = clocks[worker]
        cut = 1 if stage == "first_epoch" else 5 if stage == "searching" and number >= ran - 2 else None
        if number == 5 and stage != "first_epoch":
            trial.status = "skipped"
        else:
            clocks[worker] = _train(trial, clocks[worker], seen, generator, cut)
        found.append(trial)
    return found


def _train(trial: _Trial, clock: float, seen: dict[int, list[float]], rng: random.Random, cut: int | None) -> float:
    final, speed = _quality(trial.config, rng)
    seconds = 0.25 + trial.num_parameters / 60_000
    broken = {9: "out_of_memory", 17: "failed"}.get(trial.number)
    if broken == "out_of_memory":
        trial.status = broken
        return clock + 1.0
    for epoch in range(1, MAX_EPOCHS + 1):
        clock += seconds * rng.uniform(0.9, 1.3)
        value = 0.1 + (final - 0.1) * (1 - math.exp(-epoch * speed)) + rng.gauss(0, 0.006)
        value = round(287 * min(max(value, 0.05), 0.997)) / 287
        diverges = final < 0.15
        line = _epoch_line("search", trial, 0, epoch, value, seconds, clock)
        if diverges:
            line["train_loss"] = line["validation_loss"] = math.nan
        trial.epochs.append(line)
        if diverges or (broken and epoch == 1):
            trial.status = "diverged" if diverges else str(broken)
            return clock
        if cut == epoch:
            return clock
        if epoch in RUNGS:
            line["rung"] = RUNGS.index(epoch)
            seen[epoch].append(value)
            better = sum(other > value for other in seen[epoch])
            line["decision"] = "continue" if better < max(1, len(seen[epoch]) / 3) else "stop"
            if line["decision"] == "stop":
                trial.status = "stopped"
                return clock
    trial.status = "completed"
    return clock


def _quality(config: dict[str, Any], rng: random.Random) -> tuple[float, float]:
    """Final accuracy in [0.1, 0.99] and speed of learning: the learning rate rules, then depth, width and dropout."""
    optimizer = config["optimizer"]
    best = 0.05 if optimizer["name"] == "sgd" else 0.003
    distance = math.log10(optimizer["lr"] / best)
    if optimizer["name"] == "sgd" and distance > 0.65:
        return 0.12, 0.5
    filters = [stage["filters"] for stage in config["model"]["stages"]]
    final = 0.985 - 0.05 * distance**2 - 0.02 * (len(filters) == 1) - 0.08 * max(0.0, config["model"]["dropout"] - 0.3)
    final += 0.004 * math.log2(filters[-1] / 16) + rng.gauss(0, 0.004)
    return min(final, 0.99), 0.9 - 0.3 * abs(distance)


def _epoch_line(
    phase: str, trial: _Trial, seed: int, epoch: int, value: float, seconds: float, clock: float
) -> dict[str, Any]:
    searching = phase == "search"
    return {
        "phase": phase,
        "trial": trial.number,
        "seed": seed,
        "epoch": epoch,
        "train_loss": 2.3 * (1 - min(value + 0.01, 0.999)),
        "train_accuracy": min(value + 0.01, 1.0),
        "validation_loss": 2.4 * (1 - value) if searching else None,
        "validation_accuracy": value if searching else None,
        "lr": trial.config["optimizer"]["lr"],
        "wall_seconds": seconds,
        "images_per_second": 1150 / seconds,
        "rung": None,
        "decision": None,
        "time": clock,
        "node": "node-1",
        "device": "cpu",
        "cpus": 2.0,
        "gpus": 0.0,
    }


def _direction(objective: str) -> Literal["maximize", "minimize"]:
    return "maximize" if objective == "validation_accuracy" else "minimize"


def _write_study(folder: Path, trials: list[_Trial], objective: str) -> None:
    storage = JournalStorage(JournalFileBackend(str(folder / "study.journal")))
    study = optuna.create_study(study_name="winnow", storage=storage, direction=_direction(objective))
    for trial in trials:
        values = {line["epoch"]: line[objective] for line in trial.epochs}
        state = STATES.get(trial.status, TrialState.FAIL)
        value = values[max(values)] if state in (TrialState.COMPLETE, TrialState.PRUNED) else None
        study.add_trial(
            create_trial(
                state=state,
                params=trial.params,
                distributions=trial.distributions,
                value=value,
                intermediate_values=values,
                user_attrs=_attributes(trial),
            )
        )


def _attributes(trial: _Trial) -> dict[str, Any]:
    found: dict[str, Any] = {"config": trial.config}
    found["source"] = "start_from:digits-baseline" if trial.number == 0 else "sampler"
    if trial.status == "skipped":
        return found | {"status": "skipped", "reason": "duplicate of trial 3"}
    found |= {"started": trial.started, "num_parameters": trial.num_parameters}
    if trial.status != "running":
        ended = trial.epochs[-1]["time"] if trial.epochs else trial.started + 1.0
        found |= {"status": trial.status, "ended": ended}
    if trial.status in ERRORS:
        found["error"] = ERRORS[trial.status].format(epoch=len(trial.epochs))
    return found


def _write_epochs(folder: Path, trials: list[_Trial]) -> None:
    lines = sorted((line for trial in trials for line in trial.epochs), key=lambda line: line["time"])
    # A resumed trial repeats an epoch that had no checkpoint.
    lines.insert(3, lines[0] | {"train_loss": 99.0})
    (folder / "epochs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_retrain(folder: Path, space: Space, trials: list[_Trial], seed: int) -> None:
    """The best three and the baseline over three seeds; one seed of the third diverges. A diverged training does not record the network's size."""
    baseline = _Trial(-1, space.config(space.baseline or {}).model_dump(mode="json"), {}, {})
    completed = [t for t in trials if t.status == "completed" and may_win(t.config, baseline.config)]
    completed.sort(key=lambda trial: -trial.epochs[-1]["validation_accuracy"])
    entries = [*enumerate(completed[:3], start=1), (None, baseline)]
    generator = random.Random(seed + 1)
    clock = max(line["time"] for trial in trials for line in trial.epochs) + 5.0
    with (folder / "retrain.jsonl").open("w") as lines, (folder / "epochs.jsonl").open("a") as epochs:
        for rank, trial in entries:
            for training_seed in (101, 102, 103):
                clock += 6.0
                fails = rank == 3 and training_seed == 103
                accuracy = generator.gauss(0.962 if rank is None else 0.979 - 0.003 * rank, 0.002)
                line = _retrain_line(rank, trial, training_seed, accuracy, fails, clock)
                lines.write(json.dumps(line) + "\n")
                for epoch in range(1, (2 if fails else MAX_EPOCHS) + 1):
                    value = accuracy * (1 - math.exp(-0.6 * epoch))
                    epochs.write(
                        json.dumps(_epoch_line("retrain", trial, training_seed, epoch, value, 0.3, clock)) + "\n"
                    )
                if line["predictions"]:
                    _write_predictions(folder / line["predictions"], accuracy, training_seed)


def _retrain_line(
    rank: int | None, trial: _Trial, seed: int, accuracy: float, fails: bool, clock: float
) -> dict[str, Any]:
    name = f"t{trial.number}-s{seed}" if trial.number >= 0 else f"baseline-s{seed}"
    return {
        "rank": rank,
        "trial": trial.number,
        "seed": seed,
        "baseline": rank is None,
        "status": "diverged" if fails else "completed",
        "test_accuracy": None if fails else accuracy,
        "test_loss": None if fails else 2.2 * (1 - accuracy),
        "train_loss": None if fails else 0.01,
        "train_accuracy": None if fails else 0.998,
        "epochs": 2 if fails else MAX_EPOCHS,
        **({} if fails else {"num_parameters": trial.num_parameters, "multiply_adds": 50 * trial.num_parameters}),
        "wall_seconds": 6.0,
        "time": clock,
        "config": trial.config,
        "search_value": trial.epochs[-1]["validation_accuracy"] if trial.epochs else None,
        "predictions": None if fails else f"predictions/{name}.npz",
        "weights": None if fails else f"checkpoints/winner-{name}.pt",
    }


def _write_predictions(path: Path, accuracy: float, seed: int) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images[-NUM_TEST:] * 255 / 16).astype(np.uint8)[..., None]
    true = digits.target[-NUM_TEST:].astype(np.int64)
    generator = np.random.default_rng(seed)
    wrong = generator.permutation(NUM_TEST)[: round(NUM_TEST * (1 - accuracy))]
    predicted = true.copy()
    predicted[wrong] = (true[wrong] + generator.choice([1, 5, 7], len(wrong))) % 10
    confidence = generator.uniform(0.8, 1.0, NUM_TEST).astype(np.float32)
    confidence[wrong] = generator.uniform(0.4, 0.99, len(wrong))
    probabilities = np.repeat((1 - confidence[:, None]) / 9, 10, axis=1)
    probabilities[np.arange(NUM_TEST), predicted] = confidence
    gallery = wrong[np.argsort(-confidence[wrong])]
    path.parent.mkdir(exist_ok=True)
    np.savez(
        path,
        index=np.arange(NUM_TEST),
        true=true,
        predicted=predicted,
        confidence=confidence,
        probabilities=probabilities.astype(np.float16),
        probability_true=np.where(true == predicted, confidence, (1 - confidence) / 2).astype(np.float32),
        gallery_index=gallery,
        gallery_images=images[gallery],
    )


if __name__ == "__main__":
    stage = sys.argv[2] if len(sys.argv) > 2 else "retrained"
    print(make_run(Path(sys.argv[1]), stage=cast(Stage, stage)))
