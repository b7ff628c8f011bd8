"""Stand-ins for an Optuna trial: they draw from a seed, take preferred values, or repeat known ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from winnow.spaces.grammar.nodes import AtLeast


class KnownTrial:
    """Gives the values it was made with, by study name."""

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
    """Takes the forced values where there are any (an AtLeast: the smallest that will do); `prefer` picks among the rest.

    Of a range of real numbers it is the low end, or with `rng` any one.
    """

    def __init__(
        self, forced: Mapping[str, Any], prefer: Callable[[Sequence[Any]], Any], rng: random.Random | None = None
    ) -> None:
        self.forced = forced
        self.prefer = prefer
        self.rng = rng

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        wanted = self.forced.get(name, self)
        if isinstance(wanted, AtLeast):
            return min(option for option in choices if option >= wanted.count)
        return self.prefer(list(choices)) if wanted is self else wanted

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        wanted = self.forced.get(name)
        if isinstance(wanted, AtLeast):
            return low + max(0, math.ceil((wanted.count - low) / step)) * step
        return self.prefer(range(low, high + 1, step)) if wanted is None else wanted

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        wanted = self.forced.get(name)
        if wanted is not None:
            return wanted
        if self.rng is None:
            return low
        return math.exp(self.rng.uniform(math.log(low), math.log(high))) if log else self.rng.uniform(low, high)


def gentle(values: Sequence[Any]) -> Any:
    """The value that shrinks an image least and asks least of the rest."""
    if isinstance(values, range):
        return values[0]
    for harmless in ("none", "same"):
        if harmless in values:
            return harmless
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return min(values) if numbers else values[0]


def completions(forced: Mapping[str, Any], num_random: int, seed: int = 0) -> Iterator[ProbeTrial]:
    """Trials that hold the forced values: first the ones likely to be fine, then random ones."""
    for prefer in (itemgetter(0), gentle, itemgetter(-1)):
        yield ProbeTrial(forced, prefer)
    rng = random.Random(seed)
    for _ in range(num_random):
        yield ProbeTrial(forced, rng.choice, rng)
