"""The tasks that searchers are compared on: families of learning curves that are unlike each other.

A task has a space, a number of epochs, and a curve for every config: of LCBench from a surrogate, of the other families from
recorded trainings, where the nearest recorded config answers for one that was not trained. The family "digits" is conditional.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks import REPOSITORY, RESULTS
from benchmarks.search_quality import lcbench
from winnow.search.samplers.encoding import ParameterEncoding
from winnow.spaces import catalog
from winnow.spaces.space import Space

DIGITS = Path(__file__).parent / "digits.parquet"
NUM_RANDOM = 5000  # configs whose median is the regret of 100 on a recorded task

Params = Mapping[str, Any]
Array = np.ndarray


@dataclass(frozen=True)
class Task:
    """One problem to search; `curve` gives the score after each epoch, [epochs], higher is better."""

    name: str
    family: str
    epochs: int
    suggest: Callable[[Any], object]
    """Has an Optuna trial, or what stands for one, suggest all parameters of a config."""
    curve: Callable[[Params], Array]
    best: float
    """The best score known after the last epoch: a regret of 0."""
    median: float
    """The median score of random configs after the last epoch: a regret of 100."""

    def regret(self, score: float) -> float:
        """The regret times 100 of a config that ends with this score."""
        return 100 * (self.best - score) / (self.best - self.median)


class Recorded:
    """Recorded learning curves of one task.

    Args:
        parameters: Each parameter as `spaces.json` describes it: `float` with two bounds and `log`, or `choice`.
        configs: One list of values per parameter, in the order of `parameters`.
        curves: The score after each epoch, [configs, epochs].
    """

    def __init__(self, parameters: Mapping[str, Any], configs: list[list[Any]], curves: Array) -> None:
        self._axes = [_Axis(described) for described in parameters.values()]
        self.space = {name: axis.distribution for name, axis in zip(parameters, self._axes, strict=True)}
        self._points = np.stack([axis.scale(values) for axis, values in zip(self._axes, configs, strict=True)], axis=1)
        self._curves = curves

    def curve(self, params: Params) -> Array:
        """The curve of the nearest recorded config."""
        point = np.array([axis.scale([params[name]])[0] for name, axis in zip(self.space, self._axes, strict=True)])
        return self._curves[((self._points - point) ** 2).sum(axis=1).argmin()]

    @cached_property
    def scale(self) -> tuple[float, float]:
        """The best recorded score and the median of random configs, both after the last epoch."""
        coordinates = np.random.default_rng(0).random((NUM_RANDOM, len(self._axes)))
        points = np.stack([axis.at(column) for axis, column in zip(self._axes, coordinates.T, strict=True)], axis=1)
        nearest = [((self._points - point) ** 2).sum(axis=1).argmin() for point in points]
        return float(self._curves[:, -1].max()), float(np.median(self._curves[nearest, -1]))


class _Axis:
    """One parameter, scaled to [0, 1] for distances."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self._log = bool(described.get("log"))
        self.distribution: BaseDistribution
        if "choice" in described:
            self.distribution = CategoricalDistribution(described["choice"])
            self._low, self._high = min(described["choice"]), max(described["choice"])
        else:
            self._low, self._high = described["float"]
            self.distribution = FloatDistribution(self._low, self._high, log=self._log)

    def at(self, coordinates: Array) -> Array:
        """The scaled values at coordinates in [0, 1), on which all values are spread evenly."""
        if not isinstance(self.distribution, CategoricalDistribution):
            return coordinates
        choices = self.distribution.choices
        return self.scale(list(choices))[(coordinates * len(choices)).astype(int)]

    def scale(self, values: list[Any]) -> Array:
        change = np.log if self._log else np.asarray
        low, high = change(self._low), change(self._high)
        return (change(np.asarray(values, float)) - low) / (high - low)


def recorded_tasks() -> list[Task]:
    """The tasks of the shared folder of recorded curves, in alphabetical order."""
    folder = _shared("curves", "WINNOW_CURVES")
    tasks = []
    for name, described in sorted(json.loads((folder / "spaces.json").read_text()).items()):
        table = pq.read_table(folder / f"{name}.parquet")
        columns = [table[parameter].to_pylist() for parameter in described["parameters"]]
        recorded = Recorded(described["parameters"], columns, np.array(table["curve"].to_pylist(), float))
        family = "taskset" if name.startswith("taskset") else "cnn"
        best, median = recorded.scale
        suggest = partial(suggest_all, recorded.space)
        tasks.append(Task(name, family, described["epochs"], suggest, recorded.curve, best, median))
    return tasks


def lcbench_tasks() -> list[Task]:
    """All 34 tasks of the LCBench surrogate, in numerical order."""
    bench = lcbench.LcBench(_shared("lcbench", "WINNOW_LCBENCH"))
    scales = json.loads((RESULTS / "search_efficiency.scales.json").read_text())

    def curve(name: str) -> Callable[[Params], Array]:
        return lambda params: bench.curve(name, dict(params))

    return [
        Task(
            f"lcbench-{name}",
            "lcbench",
            lcbench.EPOCHS,
            partial(suggest_all, lcbench.SPACE),
            curve(name),
            *scales[name],
        )
        for name in bench.tasks
    ]


def digits_tasks() -> list[Task]:
    """Random configs of the space `digits` that `record_digits.py` has trained: depth, optimizer and schedule are conditions."""
    rows = pq.read_table(DIGITS).to_pylist()
    space = digits_space()
    recorded = RecordedTree(space.suggest, [json.loads(row["params"]) for row in rows], [row["curve"] for row in rows])
    best, median = float(recorded.curves[:, -1].max()), float(np.median(recorded.curves[:, -1]))
    return [Task("digits", "digits", space.max_epochs, space.suggest, recorded.curve, best, median)]


def digits_space() -> Space:
    """The space of the family "digits". 40 % of the images are for validation: with 20 % most good configs would be equal."""
    return catalog.load("digits", ["data.validation=0.4", "precision=float32"])


class RecordedTree:
    """Recorded learning curves of a space with conditions.

    Args:
        suggest: Has a trial suggest the parameters of a config.
        configs: The parameters of the recorded configs.
        curves: Their scores after each epoch, [configs, epochs].
    """

    def __init__(
        self, suggest: Callable[[Any], object], configs: Sequence[Params], curves: Sequence[Sequence[float]]
    ) -> None:
        self.curves = np.array(curves)
        self._suggest = suggest
        self._recorded = [self._trial(params) for params in configs]

    def curve(self, params: Params) -> Array:
        """The curve of the nearest recorded config, as far as the encoding of the samplers measures distance."""
        encoding = ParameterEncoding([*self._recorded, self._trial(params)])
        columns = encoding.encode(encoding.points)
        return self.curves[((columns[:-1] - columns[-1]) ** 2).sum(axis=1).argmin()]

    def _trial(self, params: Params) -> FrozenTrial:
        fixed = optuna.trial.FixedTrial(dict(params))
        self._suggest(fixed)
        return optuna.trial.create_trial(
            params=fixed.params, distributions=fixed.distributions, state=TrialState.RUNNING
        )


def _shared(folder: str, variable: str) -> Path:
    """The folder that an environment variable names, or the one in `shared/benchmarks` beside the repository."""
    return Path(os.environ.get(variable, REPOSITORY.parent / "shared" / "benchmarks" / folder))


def suggest_all(space: Mapping[str, BaseDistribution], trial: Any) -> None:
    """Have a trial suggest every parameter of a space without conditions."""
    for name, domain in space.items():
        if isinstance(domain, IntDistribution):
            trial.suggest_int(name, domain.low, domain.high, log=domain.log)
        elif isinstance(domain, FloatDistribution):
            trial.suggest_float(name, domain.low, domain.high, log=domain.log)
        elif isinstance(domain, CategoricalDistribution):
            trial.suggest_categorical(name, domain.choices)


def draw(suggest: Callable[[Any], object], rng: np.random.Generator) -> dict[str, Any]:
    """The parameters of a random config."""
    trial = Drawn(rng)
    suggest(trial)
    return trial.params


class Drawn:
    """Stands for a trial whose parameters are drawn at random. It keeps their distributions, of all configs that it was asked for."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self._rng = rng

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._draw(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> Any:
        return self._draw(name, IntDistribution(low, high, log=log, step=step))

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> Any:
        return self._draw(name, FloatDistribution(low, high, log=log, step=step))

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        self.distributions[name] = distribution
        self.params[name] = ParameterEncoding.draw(distribution, self._rng)
        return self.params[name]
