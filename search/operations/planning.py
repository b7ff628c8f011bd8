"""What a search will do and cost, before it is run: rungs, trials that reach them, epochs, and an estimate of time and memory."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from winnow.search.schedulers.asha import Asha
from winnow.search.settings import Settings, rung_epochs
from winnow.spaces.samplers import spec_of

if TYPE_CHECKING:
    from winnow.search.data.source import Source
    from winnow.search.resources.plan import DeviceOptions
    from winnow.search.training.speed_probe import Measured
    from winnow.spaces.space import Space

SIMULATED_TRIALS = 500  # a larger search is simulated with so many, and scaled
NUM_SIMULATIONS = 40
OVERHEAD_SECONDS = (0.01, 0.05)
"""Beside each epoch: the checkpoint, the report to the driver and its writes (DESIGN: 9 ms of Tune's controller alone)."""


@dataclass(frozen=True)
class Rung:
    """`expected` trials reach it; `low` to `high` as `expected_rungs` says."""

    epoch: int
    expected: float
    low: float
    high: float


@dataclass(frozen=True)
class Bracket:
    """Of Li et al. (2020): bracket s starts with the s-th rung as its grace."""

    number: int
    grace_epochs: int
    rungs: list[int]


@dataclass(frozen=True)
class Estimate:
    """`seconds` of the whole search; a range, not a bound. `memory_mb` of one worker with the largest config."""

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
class SearchPlan:
    trials: int
    max_epochs: int
    brackets: list[Bracket]
    rungs: list[Rung]
    """The full training is the last."""
    epochs: float
    epochs_low: float
    epochs_high: float
    notes: list[str]
    estimate: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan_search(settings: Settings) -> SearchPlan:
    """Without a probe: what follows from the settings alone. Imports neither torch nor ray."""
    pausing = spec_of(settings.sampler).pauses
    rungs = expected_rungs(settings)
    notes = []
    if pausing:
        notes.append(
            "the sampler forecast decides which paused trial goes on: the figures are those of successive halving, "
            "which it may leave either way"
        )
    if settings.audit:
        notes.append("the epochs of the audit are among the epochs")
    notes.append(
        "more trials go on where the sampler learns much, and where many have the same accuracy: ties go on together"
    )
    low, expected, high = (_epochs(rungs, settings, which) for which in ("low", "expected", "high"))
    return SearchPlan(settings.num_trials, settings.max_epochs, brackets(settings), rungs, expected, low, high, notes)


def brackets(settings: Settings) -> list[Bracket]:
    """All brackets as published; the search runs bracket 0, and another with its `--grace-epochs`."""
    rungs = rung_epochs(settings.grace_epochs, settings.reduction_factor, settings.max_epochs)
    found = [Bracket(s, grace, rungs[s:]) for s, grace in enumerate(rungs)]
    return [*found, Bracket(len(rungs), settings.max_epochs, [])]


def expected_rungs(settings: Settings) -> list[Rung]:
    """How many of the trials reach each rung, simulated with the rule that judges them.

    `low`: the rungs foretell nothing of each other, no two trials are equal, and later trials are as good as early ones.
    `high`: the rungs agree wholly, values tie as on a small validation split, and the sampler learns: the last trials are better
    than the first by half the spread of the values. A search on `digits` came out near `high` (docs/decisions.md). More
    go on than the 1/reduction_factor of synchronous halving, since the first at a rung goes on whatever it has.
    """
    ends = [*rung_epochs(settings.grace_epochs, settings.reduction_factor, settings.max_epochs), settings.max_epochs]
    num = min(settings.num_trials, SIMULATED_TRIALS)
    repeats = max(4, min(NUM_SIMULATIONS, 2_000_000 // num**2))
    learning = 0.5 if spec_of(settings.sampler).reads_results else 0.0
    worlds = [_World(agree=False), _World(agree=True, learning=learning, levels=10)]
    reached = [[_simulate(settings, num, world, random.Random(r)) for r in range(repeats)] for world in worlds]
    scale = settings.num_trials / num
    found = []
    for place, epoch in enumerate(ends):
        extremes = [scale * mean(counts[place] for counts in of_world) for of_world in reached]
        found.append(Rung(epoch, mean(extremes), min(extremes), max(extremes)))
    return found


@dataclass(frozen=True)
class _World:
    """How values come about: the same at all rungs or new at each; `learning` added from first to last; rounded to `levels`."""

    agree: bool
    learning: float = 0.0
    levels: int | None = None

    def value(self, own: float, progress: float, rng: random.Random) -> float:
        found = (own if self.agree else rng.random()) + self.learning * progress
        return found if self.levels is None else round(found * self.levels) / self.levels


def _simulate(settings: Settings, num: int, world: _World, rng: random.Random) -> list[int]:
    """How many of `num` trials reach each rung and the end."""
    asha = Asha(settings.grace_epochs, settings.reduction_factor, settings.max_epochs, "maximize")
    counts = [num] + [0] * len(asha.rungs)
    for trial in range(num):
        own = rng.random()
        for place, rung in enumerate(asha.rungs):
            if not asha.judge(trial, rung, world.value(own, trial / num, rng)):
                break
            counts[place + 1] += 1
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
    plan: SearchPlan, measured: list[Measured], largest: Measured, concurrent: int, start_seconds: float, on_gpu: bool
) -> Estimate:
    """Of wall time: start, then the expected epochs at the mean speed of the sampled configs, `concurrent` at once.

    The range holds the uncertainty of that mean (twice its standard error), of the epochs, and of the overhead. Not in it:
    that a good sampler may come to prefer larger or smaller networks than a random sample has.
    """
    seconds = [one.epoch_seconds for one in measured]
    centre = mean(seconds)
    error = 2 * stdev(seconds) / math.sqrt(len(seconds)) if len(seconds) > 1 else 0.5 * centre
    low, high = max(min(seconds), centre - error), centre + error
    overhead = mean(OVERHEAD_SECONDS)
    # The last trials run while other workers have nothing left to do: half a full training on the average.
    tail = 0.5 * plan.max_epochs * centre * (concurrent > 1)
    longest = plan.max_epochs * (largest.epoch_seconds + OVERHEAD_SECONDS[1])
    return Estimate(
        seconds=start_seconds + plan.epochs * (centre + overhead) / concurrent + tail,
        seconds_low=start_seconds + plan.epochs_low * (low + OVERHEAD_SECONDS[0]) / concurrent,
        seconds_high=start_seconds
        + plan.epochs_high * (high + OVERHEAD_SECONDS[1]) / concurrent
        + min(longest, 4 * tail),
        start_seconds=start_seconds,
        epoch_seconds=centre,
        largest_epoch_seconds=largest.epoch_seconds,
        memory_mb=largest.memory_mb,
        memory_is="measured on the GPU" if on_gpu else "measured, resident memory of one worker",
        num_probed=len(measured),
        concurrent=concurrent,
    )


NUM_PROBED = 6  # random configs, and the largest beside them


PROBE_SECONDS = 1.0  # of each


def probe(
    space: Space,
    settings: Settings,
    planned: SearchPlan,
    devices: DeviceOptions,
    source: Source,
    address: str | None,
    say: Callable[[str], None],
) -> Estimate:
    """The largest config alone, then random ones, as many at once as the search would run, in real workers."""
    from winnow.search.data.source import load_data
    from winnow.search.operations.planning import estimate
    from winnow.search.operations.searching import packing_of
    from winnow.search.ray_backend.session import ray_session
    from winnow.search.ray_backend.tasks import run_tasks
    from winnow.search.resources.inventory import allocated_cpus
    from winnow.search.resources.largest_config import largest_config, sample_configs
    from winnow.search.resources.plan import plan_resources
    from winnow.spaces.validation import check

    data = load_data(space, source)
    check(space, data.image_shape)
    largest, sampled = largest_config(space, data), sample_configs(space, data, NUM_PROBED, settings.seed)
    devices.check_one_gpu("the probe of winnow plan")
    if address is None:
        devices.check_here()
    began = time.time()
    with ray_session(devices.num_cpus or allocated_cpus(), devices.num_gpus, address) as ray:
        shares = plan_resources(ray, devices, settings.num_trials, packing_of(ray, space, data, settings.seed, say))
        say(f"{shares.explanation}; probing the largest config and {len(sampled)} random ones")
        shared, ready = ray.put(data), []
        found: dict[str, list[Any]] = {"largest": [], "sampled": []}
        for name, configs in (("sampled", sampled), ("largest", [largest])):
            jobs = [
                (name, (shared, config, shares.device, shares.threads, settings.seed, PROBE_SECONDS))
                for config in configs
            ]
            for _, measured in run_tasks(ray, probe_one, jobs, shares.per_trial):
                found[name].append(measured)
                ready.append(measured.started - began)
    return estimate(
        planned, found["sampled"], found["largest"][0], shares.concurrent, min(ready), shares.device == "cuda"
    )


def probe_one(data: Any, config: Any, device: str, threads: int, seed: int, seconds: float) -> Any:
    """In a Ray worker."""
    import torch

    from winnow.search.training.speed_probe import measure

    torch.set_num_threads(threads)
    return measure(config, data, torch.device(device), seed, seconds)
