"""Fronts of accuracy and size by real trainings: ours with early stopping against Optuna's TPE and NSGA-II without, at equal cost.

    python -m benchmarks.search_quality.real_fronts --data-dir data --seconds 1800 --seeds 5

A subset of CIFAR-10 and the space `cifar10-cnn`, without its start points and baseline. Each search trains one network after another in this
process, with the training loop of Winnow but without Ray, until its trainings have taken `--seconds` (choosing configs is not counted); a
training that the time would interrupt does not count. The objectives are validation accuracy and the number of parameters. What counts is the
hypervolume of the trials that were trained to their end, in (accuracy, logarithm of the parameters), above the accuracy of guessing and the
largest network that any search of this seed completed. The goal: at least 1.2 times the better rival's. Searches that are in the file of results
are not run again. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any, Protocol

import numpy as np
import optuna
import torch
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from benchmarks import RESULTS, half_width
from benchmarks.search_quality.fronts import settle
from winnow.search.data.image_data import ImageData
from winnow.search.data.source import Source, load_data
from winnow.search.samplers.suggester import Suggester, Suggestion
from winnow.search.schedulers.pausing import Pausing
from winnow.search.schedulers.registry import make_scheduler
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.provenance import hardware, versions
from winnow.search.training.device_data import DeviceData
from winnow.search.training.loop import train
from winnow.spaces import catalog
from winnow.spaces.fronts import hypervolume
from winnow.spaces.samplers import spec_of
from winnow.spaces.schema import Config
from winnow.spaces.sizes import known_sizes
from winnow.spaces.space import Space

OBJECTIVES = "search.objectives=[validation_accuracy, {minimize: parameters}]"
GOAL = 1.2
RIVALS = ("Optuna TPE", "Optuna NSGA-II")


@dataclass
class Trainer:
    """Trains configs on the images, and continues paused trainings from the state that they had."""

    space: Space
    data: ImageData
    seed: int
    device: torch.device
    clock: Callable[[], float] = time.perf_counter
    states: dict[int, dict[str, Any]] = field(default_factory=dict)
    """The states of paused trainings, by the number of the trial."""

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.data.image_shape

    def epochs(self, number: int, tree: dict[str, Any]) -> Iterator[tuple[int, float, float]]:
        """Train a config from its last epoch on; the training is kept for later if the caller stops.

        Args:
            number: Number of the trial.
            tree: Its complete config.

        Yields:
            The epoch, the validation accuracy (NaN if the training diverged), and the seconds that the epoch took.
        """
        config = Config.model_validate(tree)
        data = DeviceData.build(self.data, config.data, self.device, self.seed)
        began = self.clock()
        seed = derive_seed(Stream.TRIAL, self.seed, number)
        for result in train(config, data, self.device, seed, checkpoint=self.states.pop(number, None)):
            accuracy = math.nan if result.diverged or result.validation_accuracy is None else result.validation_accuracy
            seconds = self.clock() - began
            if not result.last:
                self.states[number] = result.state()
            yield result.epoch, accuracy, seconds
            began = self.clock()


class Contender(Protocol):
    def ask(self) -> tuple[int, dict[str, Any]]:
        """Return the number and the config of the trial to train next; one that was paused continues."""

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Return whether the trial continues."""


class Ours:
    """The decisions of the ledger in a search with two objectives, without its folder."""

    def __init__(self, space: Space, shape: tuple[int, int, int], num_classes: int, seed: int, sampler: str) -> None:
        self.settings: Settings = settings_for(space, sampler=sampler, seed=seed)
        self.rule = make_scheduler(self.settings, spec_of(sampler).pauses)
        self.shape, self.num_classes = shape, num_classes
        rungs = [*self.rule.rungs, space.max_epochs]
        self.suggester = Suggester(space, self.settings, shape, rungs, num_classes)
        self.study = optuna.create_study(direction="maximize")
        self.paused: set[int] = set()
        self.configs: list[dict[str, Any]] = []

    def ask(self) -> tuple[int, dict[str, Any]]:
        number = len(self.configs)
        shown, sampler = self.suggester.readable(self.study), self.suggester.sampler(number)
        if isinstance(self.rule, Pausing):
            resumed = sampler.resume(shown, self.paused, self.rule)  # type: ignore[attr-defined]
            if resumed is not None:
                self.paused.discard(resumed)
                return resumed, self.configs[resumed]
        suggestion = self.suggester.next(shown, sampler, number)
        if not isinstance(suggestion, Suggestion):
            raise SystemExit(f"no further config was found after {number} trials: {suggestion}")
        sizes = known_sizes(Config.model_validate(suggestion.config), self.shape, self.num_classes)
        self.study.add_trial(suggestion.draft.to_trial({"config": suggestion.config, **sizes}))
        self.suggester.note(suggestion.config, suggestion.num_drafts)
        self.rule.note_figures(number, sizes)
        self.configs.append(suggestion.config)
        return number, suggestion.config

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        storage = self.study._storage
        if math.isfinite(accuracy):
            trial_id = storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            storage.set_trial_intermediate_value(trial_id, epoch, accuracy)
        going_on = self.rule.judge(number, epoch, accuracy)
        if not math.isfinite(accuracy):
            self.study.tell(number, state=TrialState.FAIL)
        else:
            is_last = epoch == self.settings.max_epochs
            settle(self.study, self.rule, self.paused, number, accuracy if is_last else None, going_on)
        return going_on


class OptunaFront:
    """Optuna's own study with two objectives, which trains every trial to its end: it cannot prune there."""

    def __init__(self, space: Space, shape: tuple[int, int, int], num_classes: int, sampler: BaseSampler) -> None:
        self.space, self.shape, self.num_classes = space, shape, num_classes
        self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self.trials: dict[int, tuple[Trial, Config]] = {}

    def ask(self) -> tuple[int, dict[str, Any]]:
        while True:
            trial = self.study.ask()
            raw = self.space.suggest(trial)
            if not self.space.infeasible(raw, self.shape):
                config = self.space.config(raw)
                self.trials[trial.number] = (trial, config)
                return trial.number, config.model_dump(mode="json")
            self.study.tell(trial, state=TrialState.FAIL)

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        trial, config = self.trials[number]
        if not math.isfinite(accuracy):
            self.study.tell(trial, state=TrialState.FAIL)
            return False
        if epoch == self.space.max_epochs:
            size = known_sizes(config, self.shape, self.num_classes)["num_parameters"]
            self.study.tell(trial, [accuracy, size])
        return True


def contenders(space: Space, data: ImageData, seed: int) -> dict[str, Callable[[], Contender]]:
    """Each way to search, by name; made when it runs."""
    about = (space, data.image_shape, data.num_classes)
    return {
        "Optuna TPE": lambda: OptunaFront(*about, TPESampler(seed=seed)),
        "Optuna NSGA-II": lambda: OptunaFront(*about, NSGAIISampler(seed=seed)),
        "random": lambda: Ours(*about, seed, "random"),
        "tpe": lambda: Ours(*about, seed, "tpe"),
        "forecast": lambda: Ours(*about, seed, "forecast"),
    }


def search(contender: Contender, trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Train what a contender asks for until the time is used up.

    Args:
        contender: The search.
        trainer: Trains its configs.
        seconds: The time that all epochs together may take.

    Returns:
        The completed trials as (accuracy, number of parameters), and the numbers of trials and epochs.
    """
    completed: list[tuple[float, int]] = []
    begun: set[int] = set()
    used, num_epochs = 0.0, 0
    while True:
        number, config = contender.ask()
        begun.add(number)
        for epoch, accuracy, spent in trainer.epochs(number, config):
            used, num_epochs = used + spent, num_epochs + 1
            if used > seconds:
                return {"completed": completed, "trials": len(begun), "epochs": num_epochs}
            going_on = contender.report(number, epoch, accuracy)
            if epoch == config["epochs"] and math.isfinite(accuracy):
                sizes = known_sizes(Config.model_validate(config), trainer.shape, trainer.data.num_classes)
                completed.append((accuracy, sizes["num_parameters"]))
            if not going_on:
                break


def volumes(runs: Sequence[dict[str, Any]], chance: float) -> list[float]:
    """The hypervolume of each of the searches that are compared: 0 to 1, 1 being an accuracy of 1 with the smallest network of all."""
    sizes = [size for run in runs for _, size in run["completed"]]
    if not sizes:
        return [0.0 for _ in runs]
    span = max(math.log(max(sizes) / min(sizes)), 1e-9)

    def volume(completed: Sequence[tuple[float, int]]) -> float:
        points = [((acc - chance) / (1 - chance), math.log(max(sizes) / size) / span) for acc, size in completed]
        return hypervolume(np.array(points).reshape(-1, 2), np.zeros(2))

    return [volume(run["completed"]) for run in runs]


def table(runs: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Mean hypervolume over the seeds that all contenders have, and the ratio to the better rival with its 95 % interval."""
    found = {(run["seed"], run["contender"]): run for run in runs}
    seeds = sorted({seed for seed, _ in found if all((seed, name) in found for name in names)})
    if not seeds:
        return "No seed was searched by all contenders."
    by_seed = {seed: volumes([found[seed, name] for name in names], found[seed, names[0]]["chance"]) for seed in seeds}
    values = {name: [by_seed[seed][place] for seed in seeds] for place, name in enumerate(names)}
    rivals = [name for name in names if name in RIVALS]
    rival = max(rivals, key=lambda name: mean(values[name])) if rivals else None
    rows = [
        f"| contender | hypervolume | ratio to the better rival (95 %; goal {GOAL}) | trials | completed | epochs | seeds |"
    ]
    rows.append("|---|---|---|---|---|---|---|")
    for name in names:
        ratio = ""
        if rival is not None and name != rival:
            logs = [math.log(max(a, 1e-6) / max(b, 1e-6)) for a, b in zip(values[name], values[rival], strict=True)]
            half = half_width(logs)
            low, middle, high = (math.exp(mean(logs) + shift) for shift in (-half, 0.0, half))
            ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        own = [found[seed, name] for seed in seeds]
        counts = [mean(run["trials"] for run in own), mean(len(run["completed"]) for run in own)]
        counts.append(mean(run["epochs"] for run in own))
        numbers = " | ".join(f"{count:.0f}" for count in counts)
        rows.append(f"| {name} | {mean(values[name]):.3f} | {ratio} | {numbers} | {len(seeds)} |")
    return "\n".join(rows)


def subset(epochs: int, images: int) -> Space:
    """The space `cifar10-cnn` over a part of the images, with two objectives and without what its author knew to be good."""
    overrides = [f"epochs={epochs}", f"data.limit={images}", OBJECTIVES]
    tree = dict(catalog.load("cifar10-cnn", overrides).tree)
    for key in ("start_from", "baseline"):
        tree.pop(key, None)
    return Space.from_tree(tree, "cifar10-subset")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="folder of CIFAR-10")
    parser.add_argument("--images", type=int, default=5000, help="number of training images, validation included")
    parser.add_argument("--epochs", type=int, default=9, help="epochs of a full training")
    parser.add_argument("--seconds", type=float, required=True, help="time of all trainings of one search")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--contenders", nargs="+", default=["Optuna TPE", "Optuna NSGA-II", "random", "tpe", "forecast"]
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULTS / "real_fronts.jsonl")
    asked = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = subset(asked.epochs, asked.images)
    protocol = {"images": asked.images, "epochs_of_a_training": asked.epochs, "seconds": asked.seconds}
    protocol["device"] = asked.device
    run_all(space, load_data(space, Source(asked.data_dir)), asked.contenders, asked.seeds, protocol, asked.output)


def run_all(
    space: Space, data: ImageData, names: Sequence[str], num_seeds: int, protocol: dict[str, Any], path: Path
) -> None:
    """Run the searches that are not in the file yet under this protocol, and print the table of those that are.

    Args:
        space: The space.
        data: Its images.
        names: Names of the contenders.
        num_seeds: Number of seeds.
        protocol: `seconds`, `device`, and what else the results depend on.
        path: File of the results.
    """

    def recorded() -> list[dict[str, Any]]:
        return [line for line in read_json_lines(path) if line["protocol"] == protocol]

    done = {(line["seed"], line["contender"]) for line in recorded()}
    about = {"hardware": hardware(), "versions": versions(), "date": time.strftime("%Y-%m-%d")}
    lines = JsonLines(path)
    for seed in range(num_seeds):
        for name in names:
            if (seed, name) in done:
                continue
            trainer = Trainer(space, data, seed, torch.device(protocol["device"]))
            found = search(contenders(space, data, seed)[name](), trainer, protocol["seconds"])
            line = {"seed": seed, "contender": name, "chance": 1 / data.num_classes, **found}
            lines.append({**line, "protocol": protocol, **about})
            print(seed, name, len(found["completed"]), "completed", flush=True)
    lines.close()
    print(table(recorded(), names))


if __name__ == "__main__":
    main()
