"""Stand-ins for an Optuna trial, which draw from a seed, choose preferred values, or repeat known ones."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from winnow.spaces.grammar.nodes import AtLeast


class KnownTrial:
    """Suggests the values with which it was created, by study name."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the known value.

        Args:
            name: Name of the parameter in the study.
            choices: The options; not used.

        Raises:
            KeyError: No value of this name is known.
        """
        return self.values[name]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the known value; the range is not used.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values.
            log: Whether values are uniform on a logarithmic scale.

        Raises:
            KeyError: No value of this name is known.
        """
        return self.values[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the known value; the range is not used.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values.
            log: Whether values are uniform on a logarithmic scale.

        Raises:
            KeyError: No value of this name is known.
        """
        return self.values[name]


class ProbeTrial:
    """Suggests the forced values, and lets `prefer` choose the others.

    Args:
        forced: Values by study name; for an AtLeast, the smallest sufficient value is used.
        prefer: Chooses from the options of a choice or the numbers of an integer range.
        rng: Draws from ranges of real numbers. Default: the low end is used.
    """

    def __init__(
        self, forced: Mapping[str, Any], prefer: Callable[[Sequence[Any]], Any], rng: random.Random | None = None
    ) -> None:
        self.forced = forced
        self.prefer = prefer
        self.rng = rng

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the forced value, the smallest sufficient option, or the preferred one.

        Args:
            name: Name of the parameter in the study.
            choices: The options, at least one; numbers if the forced value is an AtLeast.
        """
        value = self.forced.get(name, self)
        if isinstance(value, AtLeast):
            return min(option for option in choices if option >= value.count)
        return self.prefer(list(choices)) if value is self else value

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the forced value, the smallest sufficient integer, or the preferred one.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values, at least 1.
            log: Not used: every integer of the range may be preferred.
        """
        value = self.forced.get(name)
        if isinstance(value, AtLeast):
            return low + max(0, math.ceil((value.count - low) / step)) * step
        return self.prefer(range(low, high + 1, step)) if value is None else value

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return the forced value, or a random one; without a generator, the low end.

        Args:
            name: Name of the parameter in the study.
            low: Lowest value, above 0 on a logarithmic scale.
            high: Highest value.
            step: Not used: any number of the range may be drawn.
            log: Whether values are uniform on a logarithmic scale.
        """
        value = self.forced.get(name)
        if value is not None:
            return value
        if self.rng is None:
            return low
        return math.exp(self.rng.uniform(math.log(low), math.log(high))) if log else self.rng.uniform(low, high)


def gentle(values: Sequence[Any]) -> Any:
    """Choose the value that shrinks an image least and restricts other values least."""
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
