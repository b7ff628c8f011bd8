"""Forecasts a search: its rungs, the trials that reach them, its epochs, and an estimate of time and memory."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Settings, rung_epochs
from winnow.spaces.samplers import spec_of

if TYPE_CHECKING:
    from winnow.search.training.speed_probe import Measured

SIMULATED_TRIALS = 500  # a larger search is simulated with this many trials, and the result is scaled
NUM_SIMULATIONS = 40
OVERHEAD_SECONDS = (0.01, 0.05)
"""Lowest and highest overhead per epoch: the checkpoint, the report to the driver and its writes (Tune's controller alone takes 9 ms)."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which trials are compared, and the number of trials that reach it.

    `low` and `high` are the bounds of the number that is `expected`; `expected_rungs` defines them.
    """

    epoch: int
    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Bracket:
    """A bracket of Li et al. (2020). The grace epochs of bracket s are the s-th rung."""

    number: int
    grace_epochs: int
    rungs: list[int]


@dataclass(frozen=True)
class Estimate:
    """Wall time of the whole search in seconds, and memory of one worker with the largest config in MB.

    The actual time may lie outside the range from `seconds_low` to `seconds_high`.
    """

    seconds: float
    seconds_low: float
    seconds_high: float
    start_seconds: float
    epoch_seconds: float
    largest_epoch_seconds: float
    memory_mb: float
    memory_is: str
    num_probed: int
    concurrent: int


@dataclass(frozen=True)
class SearchForecast:
    """The forecast of a search: the trials that reach each rung, the epochs, and after a probe an estimate of time and memory."""

    trials: int
    max_epochs: int
    brackets: list[Bracket]
    rungs: list[Rung]
    """The rungs, ascending; the last one is the full training."""
    epochs: float
    epochs_low: float
    epochs_high: float
    notes: list[str]
    estimate: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the forecast as `winnow plan --json` prints it."""
        return asdict(self)


def forecast_search(settings: Settings) -> SearchForecast:
    """Forecast a search from its settings alone, without a probe. This imports neither torch nor ray."""
    pausing = spec_of(settings.sampler).pauses
    rungs = expected_rungs(settings)
    notes = []
    if pausing:
        notes.append(
            "the sampler forecast chooses which paused trial continues; the forecast assumes successive halving, "
            "so the actual figures may be higher or lower"
        )
    if settings.further:
        notes.append(
            "with several objectives the rungs compare by dominance: as many trials continue, but not the same ones"
        )
        if settings.retrain.top is None:
            notes.append("the whole front is retrained; how many networks that are is not known before the search")
    if settings.audit:
        notes.append("the epochs include those of the audit")
    ties = "" if settings.further else ", or if many have the same accuracy: ties continue together"
    notes.append(f"more trials continue if the sampler improves quickly{ties}")
    low, expected, high = (_epochs(rungs, settings, which) for which in ("low", "expected", "high"))
    return SearchForecast(
        settings.num_trials, settings.max_epochs, brackets(settings), rungs, expected, low, high, notes
    )


def brackets(settings: Settings) -> list[Bracket]:
    """List all brackets of the published algorithm. A search runs bracket 0; to run another one, use its grace epochs."""
    rungs = rung_epochs(settings.grace_epochs, settings.reduction_factor, settings.max_epochs)
    stopping = [Bracket(s, grace, rungs[s:]) for s, grace in enumerate(rungs)]
    return [*stopping, Bracket(len(rungs), settings.max_epochs, [])]


def expected_rungs(settings: Settings) -> list[Rung]:
    """Simulate how many trials reach each rung, with the scheduler that judges them.

    `low` assumes that the rungs are independent of each other, that no two trials are equal, and that later trials are as good as
    early ones. `high` assumes that all rungs agree, that values tie as on a small validation split, and that the sampler learns: the
    last trials are better than the first by half the spread of the values. A search on `digits` came out near `high`. More trials
    continue than the 1/reduction_factor of synchronous halving, since the first trial at a rung always continues.

    With several objectives each trial has a place of its own in the order by dominance, and the places of trials that are alike are as random
    as those of one objective. So the same simulation holds, without ties.
    """
    ends = [*rung_epochs(settings.grace_epochs, settings.reduction_factor, settings.max_epochs), settings.max_epochs]
    num = min(settings.num_trials, SIMULATED_TRIALS)
    repeats = max(4, min(NUM_SIMULATIONS, 2_000_000 // num**2))
    learning = 0.5 if spec_of(settings.sampler).reads_results else 0.0
    worlds = [_World(agree=False), _World(agree=True, learning=learning, levels=None if settings.further else 10)]
    reached = [[_simulate(settings, num, world, random.Random(r)) for r in range(repeats)] for world in worlds]
    scale = settings.num_trials / num
    rungs = []
    for index, epoch in enumerate(ends):
        extremes = [scale * mean(counts[index] for counts in of_world) for of_world in reached]
        rungs.append(Rung(epoch, mean(extremes), min(extremes), max(extremes)))
    return rungs


@dataclass(frozen=True)
class _World:
    """A model of simulated values.

    Attributes:
        agree: Whether a trial has the same value at all rungs; otherwise a new value is drawn at each.
        learning: Improvement from the first to the last trial, as a fraction of the range of values.
        levels: Number of levels to which values are rounded; None if they are not rounded.
    """

    agree: bool
    learning: float = 0.0
    levels: int | None = None

    def value(self, own: float, progress: float, rng: random.Random) -> float:
        value = (own if self.agree else rng.random()) + self.learning * progress
        return value if self.levels is None else round(value * self.levels) / self.levels


def _simulate(settings: Settings, num: int, world: _World, rng: random.Random) -> list[int]:
    """Simulate a search with `num` trials, and return how many of them begin and pass each rung.

    Trials without which too few would complete for the wanted winners are not stopped, as `winnow.search.study.goal` decides.
    """
    asha = Asha(settings.grace_epochs, settings.reduction_factor, settings.max_epochs, "maximize")
    counts = [num] + [0] * len(asha.rungs)
    for trial in range(num):
        own, must_complete = rng.random(), counts[-1] + num - trial <= settings.retrain.num_wanted
        for index, rung in enumerate(asha.rungs):
            if not asha.judge(trial, rung, world.value(own, trial / num, rng)) and not must_complete:
                break
            counts[index + 1] += 1
    return counts


def _epochs(rungs: list[Rung], settings: Settings, which: str) -> float:
    total, before, reached = 0.0, 0, [getattr(rung, which) for rung in rungs]
    for count, rung in zip(reached, rungs, strict=True):
        total += count * (rung.epoch - before)
        before = rung.epoch
    audited = settings.audit * sum(
        (reached[k] - reached[k + 1]) * (settings.max_epochs - rungs[k].epoch) for k in range(len(rungs) - 1)
    )
    return round(total + audited, 1)


def estimate(
    forecast: SearchForecast,
    measured: list[Measured],
    largest: Measured,
    concurrent: int,
    start_seconds: float,
    on_gpu: bool,
) -> Estimate:
    """Estimate the wall time: the start, then the expected epochs at the mean speed of the sampled configs.

    Args:
        forecast: The forecast of epochs and trials.
        measured: Speed of randomly sampled configs, at least one.
        largest: Speed and memory of the largest config.
        concurrent: Number of concurrent trials.
        start_seconds: Time until the first worker is ready, in seconds.
        on_gpu: Whether memory was measured on a GPU.

    Returns:
        The estimate. Its range covers the uncertainty of the mean speed (twice its standard error), of the epochs and of the
        overhead; it does not cover a shift of the sampler towards larger or smaller networks.
    """
    seconds = [one.epoch_seconds for one in measured]
    centre = mean(seconds)
    error = 2 * stdev(seconds) / math.sqrt(len(seconds)) if len(seconds) > 1 else 0.5 * centre
    low, high = max(min(seconds), centre - error), centre + error
    overhead = mean(OVERHEAD_SECONDS)
    # While the last trials run, other workers are idle, for half a full training on average.
    tail = 0.5 * forecast.max_epochs * centre * (concurrent > 1)
    longest = forecast.max_epochs * (largest.epoch_seconds + OVERHEAD_SECONDS[1])
    return Estimate(
        seconds=start_seconds + forecast.epochs * (centre + overhead) / concurrent + tail,
        seconds_low=start_seconds + forecast.epochs_low * (low + OVERHEAD_SECONDS[0]) / concurrent,
        seconds_high=start_seconds
        + forecast.epochs_high * (high + OVERHEAD_SECONDS[1]) / concurrent
        + min(longest, 4 * tail),
        start_seconds=start_seconds,
        epoch_seconds=centre,
        largest_epoch_seconds=largest.epoch_seconds,
        memory_mb=largest.memory_mb,
        memory_is="measured on the GPU" if on_gpu else "measured, resident memory of one worker",
        num_probed=len(measured),
        concurrent=concurrent,
    )
