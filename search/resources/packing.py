"""Chooses how many trainings share a device, from measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

LEVELS = (1, 2, 4, 8)
"""Numbers of trials at once that are measured."""

CONTEXT_MB = 600.0
"""Memory of a process in MB besides its tensors: CUDA's context and libraries on a GPU; Python, Ray and torch elsewhere."""

USABLE = 0.92
"""Fraction of the free memory of a GPU, or of a machine, that trials may use."""

WORTH = 1.1
"""Factor by which throughput must grow at least for twice the trials at once. With fewer at once, the sampler knows more results
when it chooses."""


@dataclass(frozen=True)
class Level:
    """One measurement: several trials at once on one GPU, or on the CPUs of one node."""

    at_once: int
    """Trials at once."""
    images_per_second: float | None
    """Throughput of all trials together; None if it was not measured."""
    memory_mb: float
    """Memory in MB that `at_once` trials of the space's largest model need."""
    reason: str = ""
    """Why it was not measured; empty if it was."""


@dataclass(frozen=True)
class Packing:
    """The choice of how many trials share a device."""

    at_once: int
    """Trials at once."""
    levels: tuple[Level, ...]
    explanation: str


class Measure(Protocol):
    """Measures how many trials at once train fastest on one GPU, or on the CPUs of one node."""

    def __call__(self, device: str, cpus: float, kind: str = "") -> Packing:
        """Measure on one device.

        Args:
            device: `cpu`, `cuda` or `mps`.
            cpus: CPUs for each GPU, or those of one node.
            kind: Kind of the GPU, such as `T4`. Default: any.
        """


@dataclass(frozen=True)
class KindOfGpu:
    """The GPUs of one kind in a cluster that has several."""

    gpus: int
    trials_per_gpu: int


@dataclass(frozen=True)
class RecordedPacking:
    """How an earlier start of a run packed its trials."""

    gpus_per_trial: float
    trials_per_gpu: Mapping[str, int] = field(default_factory=dict)
    """Trials on one GPU by its kind; empty if all kinds took the same number."""


def choose(levels: Sequence[Level], memory_mb: float | None, estimated: bool = False) -> Packing:
    """Choose the most trials at once that fit into memory and gain enough, or the first level if none was measured.

    A level is chosen over one with half its trials if it trains at least 10 % more images per second.

    Args:
        levels: The measurements, fewest trials first.
        memory_mb: Free memory of the device in MB; None: no limit.
        estimated: Whether the memory of the largest model was estimated rather than measured, for the explanation. Default: False.

    Returns:
        The choice and its explanation.
    """
    measured = [level for level in levels if level.images_per_second is not None]
    fitting = [level for level in measured if memory_mb is None or level.memory_mb <= USABLE * memory_mb]
    best = next(iter(fitting), levels[0])
    for level in fitting[1:]:
        gain = WORTH ** math.log2(level.at_once / best.at_once)
        if (level.images_per_second or 0.0) > gain * (best.images_per_second or 0.0):
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
        text += f"; the largest model {takes} {levels[0].memory_mb:,.0f} MB of the {memory_mb:,.0f} that the {whose} has free"
    return f"{text}; chosen: {best.at_once}"


def fraction_of(at_once: int) -> float:
    """Return the fraction of a GPU for each of `at_once` trials, rounded down to the ten-thousandths in which Ray counts."""
    return math.floor(10_000 / at_once) / 10_000
