"""Defines domains, which take the place of a value in a space. Each domain rejects invalid bounds itself."""

from __future__ import annotations

import copy
import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, Protocol

from winnow.spaces.errors import SpaceError

ArrowKind = Literal["int", "float", "bool", "string"]
Stored = None | bool | int | float | str
"""A value that Optuna can store."""

MAX_GRID = 1000
"""Largest number of values of a logarithmic range with a step."""


class SuggestsValues(Protocol):
    """The part of an Optuna trial that spaces use."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Suggest one of several options.

        Args:
            name: Name of the parameter in the study.
            choices: The options, at least one, each a value that Optuna can store.
        """

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest an integer.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values, at least 1.
            log: Whether values are uniform on a logarithmic scale; `step` is then 1.
        """

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values. Default: any number of the range.
            log: Whether values are uniform on a logarithmic scale; `step` must then be None.
        """


class Domain(ABC):
    """The values that a parameter may take."""

    @property
    def is_log(self) -> bool:
        """Whether an axis of these values should be logarithmic."""
        return False

    @abstractmethod
    def suggest(self, trial: SuggestsValues, name: str) -> Any:
        """Draw one value from the trial.

        Args:
            trial: The trial that draws.
            name: Name of the parameter in the study.
        """

    @abstractmethod
    def ends(self) -> list[Any]:
        """Return both ends of a range, or every option: if these are valid, all values are."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Return whether the domain contains a value."""

    @abstractmethod
    def encode(self, value: Any) -> Stored:
        """Return what Optuna stores for a value of the domain."""

    @abstractmethod
    def size(self) -> int | float:
        """Return the number of different values; infinity for a continuous range."""

    @property
    @abstractmethod
    def arrow_kind(self) -> ArrowKind:
        """Type of a table column with these values, apart from null."""

    @abstractmethod
    def to_tree(self) -> dict[str, Any]:
        """Return the domain as written in YAML."""


@dataclass(frozen=True)
class Choice(Domain):
    """One of several values. The study stores lists and mappings among them as compact JSON."""

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise SpaceError("a choice needs at least one option, but got none")
        for index, option in enumerate(self.stored):
            if not _is_finite(self.options[index]):
                raise SpaceError(f"the options of a choice must be finite, but got {self.options[index]}")
            if option in self.stored[:index]:  # Optuna treats 1, 1.0 and true as the same value
                first = self.options[self.stored.index(option)]
                raise SpaceError(f"options must differ, but got {_show(first)} and {_show(self.options[index])}")

    @cached_property
    def stored(self) -> list[Stored]:
        return [_store(option) for option in self.options]

    @property
    def arrow_kind(self) -> ArrowKind:
        kinds = {type(option) for option in self.stored if option is not None}
        if kinds == {bool}:
            return "bool"
        if kinds == {int}:
            return "int"
        return "float" if kinds and kinds <= {int, float} else "string"

    def suggest(self, trial: SuggestsValues, name: str) -> Any:
        """Draw one option from the trial.

        Args:
            trial: The trial that draws.
            name: Name of the parameter in the study.

        Returns:
            A copy of the option, so that a list may be changed.
        """
        stored = trial.suggest_categorical(name, self.stored)
        return copy.deepcopy(self.options[self.stored.index(stored)])

    def ends(self) -> list[Any]:
        return list(self.options)

    def contains(self, value: Any) -> bool:
        return any(same(value, option) for option in self.options)

    def encode(self, value: Any) -> Stored:
        return _store(next(option for option in self.options if same(value, option)))

    def size(self) -> int:
        return len(self.options)

    def to_tree(self) -> dict[str, Any]:
        return {"choice": list(self.options)}


@dataclass(frozen=True)
class Int(Domain):
    """Integers from `low` to `high`, both included, `step` apart, or uniform on a logarithmic scale."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def __post_init__(self) -> None:
        for bound in (self.low, self.high, self.step):
            if not _is_int(bound):
                raise SpaceError(f"int needs whole numbers, but got {_show(bound)}")
        _check_bounds(self.low, self.high)
        _check_step(self.low, self.high, self.step)

    @property
    def is_log(self) -> bool:
        return self.log

    @property
    def arrow_kind(self) -> ArrowKind:
        return "int"

    def suggest(self, trial: SuggestsValues, name: str) -> int:
        """Draw one integer from the trial.

        Args:
            trial: The trial that draws.
            name: Name of the parameter in the study.
        """
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def contains(self, value: Any) -> bool:
        return _is_int(value) and self.low <= value <= self.high and (value - self.low) % self.step == 0

    def encode(self, value: Any) -> int:
        return int(value)

    def size(self) -> int:
        return (self.high - self.low) // self.step + 1

    def to_tree(self) -> dict[str, Any]:
        return {"int": [self.low, self.high], **({} if self.step == 1 else {"step": self.step})}


@dataclass(frozen=True)
class Float(Domain):
    """Real numbers from `low` to `high`, both included, uniform, optionally `step` apart."""

    low: float
    high: float
    step: float | None = None

    def __post_init__(self) -> None:
        for bound in (self.low, self.high, *([] if self.step is None else [self.step])):
            if not _is_number(bound):
                raise SpaceError(f"float needs finite numbers, but got {_show(bound)}")
        _check_bounds(self.low, self.high)
        if self.step is not None:
            _check_step(self.low, self.high, self.step)
        for field in ("low", "high"):
            object.__setattr__(self, field, float(getattr(self, field)))

    @property
    def arrow_kind(self) -> ArrowKind:
        return "float"

    def suggest(self, trial: SuggestsValues, name: str) -> float:
        """Draw one number from the trial, exactly on the grid if there is a step.

        Args:
            trial: The trial that draws.
            name: Name of the parameter in the study.
        """
        value = trial.suggest_float(name, self.low, self.high, step=self.step)
        return value if self.step is None else self._on_grid(value, self.step)

    def _on_grid(self, value: float, step: float) -> float:
        """Round to the grid exactly: 0.3 rather than 0.30000000000000004."""
        number = round((value - self.low) / step)
        return float(_exact(self.low) + number * _exact(step))

    def ends(self) -> list[Any]:
        return [self.low, self.high]

    def contains(self, value: Any) -> bool:
        if not _is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or math.isclose(value, self._on_grid(value, self.step), rel_tol=1e-9, abs_tol=1e-12)

    def encode(self, value: Any) -> float:
        return float(value)

    def size(self) -> int | float:
        return math.inf if self.step is None else round((self.high - self.low) / self.step) + 1

    def to_tree(self) -> dict[str, Any]:
        return {"float": [self.low, self.high], **({} if self.step is None else {"step": self.step})}


@dataclass(frozen=True)
class Log(Domain):
    """Numbers from `low` to `high`, both included, uniform on a logarithmic scale. They are integers if both ends are written as integers.

    `step` is a factor: from 16 to 512 with step 2 is the grid 16, 32, ... 512. Optuna has no logarithmic grid, so such a
    parameter is categorical in the study.
    """

    low: float
    high: float
    step: float | None = None

    @property
    def is_log(self) -> bool:
        return True

    def __post_init__(self) -> None:
        for bound in (self.low, self.high, *([] if self.step is None else [self.step])):
            if not _is_number(bound):
                raise SpaceError(f"log needs finite numbers, but got {_show(bound)}")
        if self.low <= 0:
            raise SpaceError(f"log needs bounds above 0, but got low={_show(self.low)}")
        _check_bounds(self.low, self.high)
        if self.step is not None:
            self._check_factor(self.step)

    def _check_factor(self, factor: float) -> None:
        if factor <= 1:
            raise SpaceError(f"the step of a log range is a factor above 1, but got {_show(factor)}")
        count = math.log(self.high / self.low) / math.log(factor)
        if count > MAX_GRID:
            raise SpaceError(f"the step {_show(factor)} makes more than {MAX_GRID} values; choose a larger one")
        if abs(count - round(count)) > 1e-6:
            below = self.low * factor ** math.floor(count)
            raise SpaceError(
                f"high must be low times a power of the step, but got low={_show(self.low)}, high={_show(self.high)}, "
                f"step={_show(factor)}; nearest are {_clean(below)} and {_clean(below * factor)}"
            )

    @property
    def _is_whole(self) -> bool:
        return all(_is_int(bound) for bound in (self.low, self.high, 1 if self.step is None else self.step))

    @cached_property
    def grid(self) -> list[Any]:
        """The values if there is a step; otherwise empty."""
        if self.step is None:
            return []
        count = round(math.log(self.high / self.low) / math.log(self.step))
        if self._is_whole:
            return [int(self.low) * int(self.step) ** power for power in range(count + 1)]
        return [*(float(_clean(self.low * self.step**power)) for power in range(count)), float(self.high)]

    @property
    def arrow_kind(self) -> ArrowKind:
        return "int" if self._is_whole else "float"

    def suggest(self, trial: SuggestsValues, name: str) -> Any:
        """Draw one number from the trial; an integer if ends and step are integers.

        Args:
            trial: The trial that draws.
            name: Name of the parameter in the study.
        """
        if self.grid:
            return trial.suggest_categorical(name, self.grid)
        if self._is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=True)
        return trial.suggest_float(name, float(self.low), float(self.high), log=True)

    def ends(self) -> list[Any]:
        return [self.low, self.high] if self._is_whole else [float(self.low), float(self.high)]

    def contains(self, value: Any) -> bool:
        if not _is_number(value) or not self.low <= value <= self.high or (self._is_whole and value != int(value)):
            return False
        return not self.grid or any(math.isclose(value, point, rel_tol=1e-9) for point in self.grid)

    def encode(self, value: Any) -> Stored:
        if self.grid:
            return min(self.grid, key=lambda point: abs(point - value))
        return int(value) if self._is_whole else float(value)

    def size(self) -> int | float:
        if self.grid:
            return len(self.grid)
        return int(self.high) - int(self.low) + 1 if self._is_whole else math.inf

    def to_tree(self) -> dict[str, Any]:
        return {"log": [self.low, self.high], **({} if self.step is None else {"step": self.step})}


def same(left: Any, right: Any) -> bool:
    """Return whether two plain values are equal. True and 1 are different.

    Args:
        left: A plain value.
        right: Another plain value.
    """
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(*pair) for pair in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _is_finite(value: Any) -> bool:
    """Return whether all numbers in a plain value, at any depth, are finite."""
    if isinstance(value, list | dict):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _store(option: Any) -> Stored:
    if isinstance(option, list | dict):
        return json.dumps(option, separators=(",", ":"))
    return option


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_bounds(low: float, high: float) -> None:
    if low > high:
        raise SpaceError(f"`low < high` must hold, but got low={_show(low)}, high={_show(high)}; are they swapped?")
    if low == high:
        raise SpaceError(f"the range from {_show(low)} to {_show(high)} contains a single value; write {_show(low)}")


def _check_step(low: float, high: float, step: float) -> None:
    if step <= 0:
        raise SpaceError(f"the step must be above 0, but got {_show(step)}")
    left_over = (_exact(high) - _exact(low)) % _exact(step)
    if left_over:
        below = _exact(high) - left_over
        raise SpaceError(
            f"high must be a whole number of steps above low, but got low={_show(low)}, high={_show(high)}, "
            f"step={_show(step)}; nearest are {below.normalize():f} and {(below + _exact(step)).normalize():f}"
        )


def _exact(number: float) -> Decimal:
    """Return a number as the decimal that was written, not as it is stored in binary."""
    return Decimal(repr(number))


def _clean(number: float) -> str:
    return f"{number:.12g}"


def _show(value: Any) -> str:
    return repr(value) if isinstance(value, str) else json.dumps(value)
