"""How many trainings share a device: what was measured, and the choice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEVELS = (1, 2, 4, 8)


CONTEXT_MB = (
    600.0  # of a process beside its tensors: CUDA's context and libraries on a GPU, Python, Ray and torch elsewhere
)


USABLE = 0.92  # of a GPU's memory, or of a machine's


WORTH = 1.02  # a smaller gain in throughput is noise, and fewer trials at once let the sampler learn sooner


@dataclass(frozen=True)
class Level:
    """`at_once` trials on one GPU, or on the CPUs of one node; None and a reason where that was not measured."""

    at_once: int
    images_per_second: float | None
    memory_mb: float
    """Of the space's largest model, `at_once` times."""
    reason: str = ""


@dataclass(frozen=True)
class Packing:
    """What was measured, and `at_once`, what follows from it."""

    at_once: int
    levels: tuple[Level, ...]
    explanation: str


def choose(levels: Sequence[Level], memory_mb: float | None, estimated: bool = False) -> Packing:
    """The level with the most images per second that fits into `memory_mb` (None: memory is no limit); the first if none was measured."""
    measured = [level for level in levels if level.images_per_second is not None]
    fitting = [level for level in measured if memory_mb is None or level.memory_mb <= USABLE * memory_mb]
    best = next(iter(fitting), levels[0])
    for level in fitting[1:]:
        if (level.images_per_second or 0.0) > WORTH * (best.images_per_second or 0.0):
            best = level
    return Packing(best.at_once, tuple(levels), _explain(levels, best, memory_mb, estimated))


def _explain(levels: Sequence[Level], best: Level, memory_mb: float | None, estimated: bool) -> str:
    rates = ", ".join(
        f"{level.at_once}: {level.images_per_second:,.0f} images/s"
        if level.images_per_second
        else f"{level.at_once}: {level.reason}"
        for level in levels
    )
    text = f"measured at once {rates}"
    if memory_mb is not None:
        takes, whose = ("is estimated to take", "machine") if estimated else ("takes", "GPU")
        text += f"; the largest model {takes} {levels[0].memory_mb:,.0f} MB of the {whose}'s {memory_mb:,.0f}"
    return f"{text}; chosen: {best.at_once}"


def fraction_of(at_once: int) -> float:
    """A GPU's part for each of so many trials; Ray counts in ten-thousandths, and rounded up they would not fit."""
    return math.floor(10_000 / at_once) / 10_000
