"""Encodes the trials of a study as points in a unit cube, and draws new points anywhere in it or near others.

Each parameter is one coordinate in [0, 1]; for a choice with k options, the interval is divided into k equal parts. A model reads
columns instead of coordinates: the coordinate itself (also for a choice among ascending numbers), or one column per option. A
parameter that a trial does not have, because another branch of the space was chosen, gets a neutral value: the middle, or no option.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

Array = np.ndarray


def any_open(trials: Sequence[FrozenTrial]) -> bool:
    """Return whether any parameter of the trials can have several values, so that there is something to model."""
    return any(not distribution.single() for trial in trials for distribution in trial.distributions.values())


class ParameterEncoding:
    """The coordinates of all parameters that the given trials have, in the order of their first appearance."""

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        self.distributions: dict[str, BaseDistribution] = {}
        for trial in trials:
            self.distributions |= {name: d for name, d in trial.distributions.items() if not d.single()}
        self.names = list(self.distributions)
        self.points = self.points_of([trial.params for trial in trials])
        """[trials, parameters], NaN where a trial does not have the parameter."""
        self._gates = [self._gate(i) for i in range(len(self.names))]

    @property
    def groups(self) -> Array:
        """Index of the parameter to which each column belongs, [columns]."""
        widths = [_width(distribution) for distribution in self.distributions.values()]
        return np.repeat(np.arange(len(widths)), widths)

    def points_of(self, configs: Sequence[Mapping[str, Any]]) -> Array:
        """Return the points of configs, [configs, parameters]; NaN where a config does not have the parameter.

        Args:
            configs: The values of each config by the names of its parameters. Other parameters than those of the trials are ignored.
        """
        points = np.full((len(configs), len(self.names)), np.nan)
        for i, (name, distribution) in enumerate(self.distributions.items()):
            having = [row for row, config in enumerate(configs) if name in config]
            internal = [distribution.to_internal_repr(configs[row][name]) for row in having]
            points[having, i] = _coordinates(distribution, np.array(internal))
        return points

    def encode(self, points: Array) -> Array:
        """Return the columns [n, columns] that a model reads, for points [n, parameters]."""
        columns = [_columns(distribution, points[:, i]) for i, distribution in enumerate(self.distributions.values())]
        return np.concatenate([np.empty((len(points), 0)), *columns], axis=1)

    def round_to_domain(self, points: Array) -> Array:
        """Move points [n, parameters] to the nearest existing values, with NaN where a parameter is not active."""
        rounded = np.empty_like(points)
        for i, distribution in enumerate(self.distributions.values()):
            active = self._active(i, rounded)
            rounded[:, i] = np.where(active, _round(distribution, np.nan_to_num(points[:, i], nan=0.5)), np.nan)
        return rounded

    def params(self, point: Array) -> dict[str, Any]:
        """Return the values of a rounded point; a parameter that is not active is left out."""
        named = zip(self.distributions.items(), point, strict=True)
        return {name: _value(distribution, x) for (name, distribution), x in named if not math.isnan(x)}

    def sample_uniform(self, num: int, rng: np.random.Generator) -> Array:
        """Draw points anywhere in the space.

        Args:
            num: Number of points.
            rng: Source of the draws.

        Returns:
            Existing points of the space, [num, parameters], with NaN where a parameter is not active.
        """
        return self.round_to_domain(rng.random((num, len(self.names))))

    def perturb(self, points: Array, num: int, deviation: float, rng: np.random.Generator) -> Array:
        """Draw points near others. Some coordinates of each point are changed: numbers are moved, choices are drawn again.

        Args:
            points: The points to start from, [n, parameters].
            num: Number of new points for each of them.
            deviation: Standard deviation of a move, as a fraction of the range.
            rng: Source of the draws.

        Returns:
            Existing points of the space, [n * num, parameters].
        """
        centres = np.nan_to_num(np.repeat(points, num, axis=0), nan=0.5)
        moved = rng.random(centres.shape) < rng.choice([0.2, 0.5, 1.0], (len(centres), 1))
        steps = np.clip(centres + rng.normal(0, deviation, centres.shape), 0, 1)
        unordered = np.array([_width(distribution) > 1 for distribution in self.distributions.values()])
        drawn = rng.random(centres.shape)
        # The options of a choice have no neighbours, so a choice changes about as rarely as a number moves far.
        moved &= ~unordered | (rng.random(centres.shape) < 0.2)
        return self.round_to_domain(np.where(moved, np.where(unordered, drawn, steps), centres))

    @staticmethod
    def draw(distribution: BaseDistribution, rng: np.random.Generator) -> Any:
        """Draw a random value of one parameter.

        Args:
            distribution: The possible values and their scale.
            rng: Source of the draw.
        """
        return value_at(distribution, float(rng.random(1)[0]))

    def _gate(self, i: int) -> tuple[int, dict[float, bool]] | None:
        """Return the earlier parameter whose value has so far decided whether parameter i is active; None if it always is.

        This is inferred from the trials, since a study does not know its space. A wrong inference only makes the model slightly
        less accurate, because the space decides which parameters a new trial has.

        Returns:
            Index of that parameter, and whether parameter i is active, by the coordinate of that parameter.
        """
        present = ~np.isnan(self.points[:, i])
        if present.all():
            return None
        for j in range(i):
            if not _is_discrete(list(self.distributions.values())[j]):
                continue
            activity: dict[float, bool] = {}
            keys = _keys(self.points[:, j])
            if all(
                activity.setdefault(float(key), bool(active)) == active
                for key, active in zip(keys, present, strict=True)
            ):
                return j, activity
        return None

    def _active(self, i: int, rounded: Array) -> Array:
        gate = self._gates[i]
        if gate is None:
            return np.ones(len(rounded), bool)
        decider, activity = gate
        return np.array([activity.get(float(key), True) for key in _keys(rounded[:, decider])], bool)


def value_at(distribution: BaseDistribution, coordinate: float) -> Any:
    """Return the value at a coordinate. Evenly spread coordinates give values with the given distribution.

    Args:
        distribution: The possible values and their scale.
        coordinate: Position in [0, 1).
    """
    return _value(distribution, float(_round(distribution, np.array([coordinate]))[0]))


def _keys(coordinates: Array) -> Array:
    return np.round(np.nan_to_num(coordinates, nan=-1.0), 9)


# --- one distribution -----------------------------------------------------------------------------------------------------


def _is_discrete(distribution: BaseDistribution) -> bool:
    return isinstance(distribution, CategoricalDistribution | IntDistribution)


def _is_ordered(distribution: CategoricalDistribution) -> bool:
    numbers = [c for c in distribution.choices if isinstance(c, int | float) and not isinstance(c, bool)]
    return len(numbers) == len(distribution.choices) and numbers == sorted(numbers)


def _width(distribution: BaseDistribution) -> int:
    if isinstance(distribution, CategoricalDistribution) and not _is_ordered(distribution):
        return len(distribution.choices)
    return 1


def _columns(distribution: BaseDistribution, coordinates: Array) -> Array:
    width = _width(distribution)
    if width == 1:
        return np.nan_to_num(coordinates, nan=0.5)[:, None]
    options = np.floor(np.nan_to_num(coordinates, nan=-1.0) * width)
    return (options[:, None] == np.arange(width)) / math.sqrt(2)  # two options are at a distance of 1


def _bounds(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Return the numbers at coordinates 0 and 1, with half a step of margin so that all steps are equally wide."""
    step = distribution.step if distribution.step and not distribution.log else 0.0
    if isinstance(distribution, IntDistribution) and distribution.log:
        step = 1.0
    low, high = distribution.low - step / 2, distribution.high + step / 2
    return (math.log(low), math.log(high)) if distribution.log else (low, high)


def _coordinates(distribution: BaseDistribution, internal: Array) -> Array:
    if isinstance(distribution, CategoricalDistribution):
        return (internal + 0.5) / len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    return np.clip(((np.log(internal) if distribution.log else internal) - low) / (high - low), 0, 1)


def _round(distribution: BaseDistribution, coordinates: Array) -> Array:
    if isinstance(distribution, CategoricalDistribution):
        k = len(distribution.choices)
        return (np.minimum(np.floor(coordinates * k), k - 1) + 0.5) / k
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if not distribution.step:
        return coordinates
    low, high = _bounds(distribution)
    numbers = low + coordinates * (high - low)
    numbers = np.exp(numbers) if distribution.log else numbers
    steps = np.round((numbers - distribution.low) / distribution.step)
    numbers = np.clip(distribution.low + steps * distribution.step, distribution.low, distribution.high)
    return ((np.log(numbers) if distribution.log else numbers) - low) / (high - low)


def _value(distribution: BaseDistribution, coordinate: float) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(coordinate * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _bounds(distribution)
    number = low + coordinate * (high - low)
    number = math.exp(number) if distribution.log else number
    if isinstance(distribution, IntDistribution):
        return int(min(max(round(number), distribution.low), distribution.high))
    if distribution.step:
        number = distribution.low + round((number - distribution.low) / distribution.step) * distribution.step
    return float(min(max(number, distribution.low), distribution.high))
