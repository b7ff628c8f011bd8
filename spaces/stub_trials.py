"""Stand-ins for an Optuna trial, which draw from a seed, choose preferred values, or repeat known ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from winnow.spaces.grammar.nodes import AtLeast


class KnownTrial:
    """Suggests the values that it was made with, by study name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.values[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self.values[name]


class ProbeTrial:
    """Suggests the forced values, and lets `prefer` choose the others.

    Args:
        forced: Values by study name; for an AtLeast the smallest sufficient value is used.
        prefer: Chooses from the options of a choice or the numbers of an integer range.
        rng: Draws from ranges of real numbers; None: the low end.
    """

    def __init__(
        self, forced: Mapping[str, Any], prefer: Callable[[Sequence[Any]], Any], rng: random.Random | None = None
    ) -> None:
        self.forced = forced
        self.prefer = prefer
        self.rng = rng

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        value = self.forced.get(name, self)
        if isinstance(value, AtLeast):
            return min(option for option in choices if option >= value.count)
        return self.prefer(list(choices)) if value is self else value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        value = self.forced.get(name)
        if isinstance(value, AtLeast):
            return low + max(0, math.ceil((value.count - low) / step)) * step
        return self.prefer(range(low, high + 1, step)) if value is None else value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        value = self.forced.get(name)
        if value is not None:
            return value
        if self.rng is None:
            return low
        return math.exp(self.rng.uniform(math.log(low), math.log(high))) if log else self.rng.uniform(low, high)


def gentle(values: Sequence[Any]) -> Any:
    """Choose the value that shrinks an image least and restricts the other values least."""
    if isinstance(values, range):
        return values[0]
    for harmless in ("none", "same"):
        if harmless in values:
            return harmless
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return min(values) if numbers else values[0]


def completions(forced: Mapping[str, Any], num_random: int, seed: int = 0) -> Iterator[ProbeTrial]:
    """Yield trials with the forced values: first those that are likely to be valid, then random ones.

    Args:
        forced: Values by study name, as for `ProbeTrial`.
        num_random: Number of random trials.
        seed: Seed of the random trials. Default: 0.
    """
    for prefer in (itemgetter(0), gentle, itemgetter(-1)):
        yield ProbeTrial(forced, prefer)
    rng = random.Random(seed)
    for _ in range(num_random):
        yield ProbeTrial(forced, rng.choice, rng)
