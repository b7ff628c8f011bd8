"""Finds the config of a space that needs the most memory to train, by estimates, and draws random configs."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from winnow.models import summarize
from winnow.models.summary import Summary
from winnow.search.training.speed_probe import estimate_memory_mb
from winnow.spaces.errors import InputError
from winnow.spaces.grammar import nodes
from winnow.spaces.grammar.domains import Choice, Int
from winnow.spaces.schema import Config
from winnow.spaces.sizes import known_excess
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import ProbeTrial

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData

NUM_STARTS = 4
MAX_DRAWS = 200
MAX_ROUNDS = 3


def sample_configs(space: Space, data: ImageData, num: int, seed: int) -> list[Config]:
    """Draw random configs of a space that can be built and are known to be within its limits.

    Args:
        space: The space.
        data: The images, whose shape decides what can be built.
        num: Number of different configs.
        seed: Seed of the draws.

    Returns:
        `num` configs, or fewer if the space has fewer.
    """
    rng, limits = random.Random(seed), space.settings.limits
    configs: dict[str, Config] = {}
    for _ in range(MAX_DRAWS):
        raw = nodes.draw(space.root, ProbeTrial({}, rng.choice, rng))
        if not space.infeasible(raw, data.image_shape):
            config = space.config(raw)
            if known_excess(limits, config, data.image_shape, data.num_classes) is None:
                configs.setdefault(repr(raw), config)
        if len(configs) == num:
            break
    return list(configs.values())


def largest_config(space: Space, data: ImageData) -> Config:
    """Find a config with a very large `estimate_memory_mb`, by coordinate ascent from the best of several starts.

    Each round tries every option of each choice and both ends of each integer range. The result need not be the maximum.

    Args:
        space: The space.
        data: Its images.
    """
    search = _Ascent(space, data)
    rng = random.Random(0)
    starts = [ProbeTrial({}, _most)]
    starts += [
        ProbeTrial({}, lambda values: _most(values) if rng.random() < 0.5 else rng.choice(values), rng)
    ] * NUM_STARTS
    for trial in starts:
        search.try_out(trial)
    if search.best is None:
        return space.example()
    for _ in range(MAX_ROUNDS):
        if not search.improve():
            break
    return search.best


def estimated_mb(config: Config, data: ImageData) -> float:
    """Return `estimate_memory_mb` of one config on these images, in MB.

    Args:
        config: The config.
        data: The images that it is trained on.
    """
    return _estimate(config, summarize(config.model, data.image_shape, data.num_classes))


def _estimate(config: Config, summary: Summary) -> float:
    outputs = sum(math.prod(layer.output_shape) for layer in summary.layers)
    return estimate_memory_mb(config, summary.num_parameters, outputs)


class _Ascent:
    def __init__(self, space: Space, data: ImageData) -> None:
        self.space = space
        self.data = data
        self.best: Config | None = None
        self.best_mb = -math.inf
        self._limits = space.settings.limits
        self._forced: dict[str, Any] = {}
        self._known: dict[str, Summary | None] = {}

    def try_out(self, trial: ProbeTrial) -> bool:
        """Draw a config from the trial; return whether it is the largest so far."""
        raw = nodes.draw(self.space.root, trial)
        if self.space.infeasible(raw, self.data.image_shape):
            return False
        config = self.space.config(raw)
        if known_excess(self._limits, config, self.data.image_shape, self.data.num_classes) is not None:
            return False
        summary = self._summary(config)
        if summary is None:
            return False
        if (mb := _estimate(config, summary)) <= self.best_mb:
            return False
        self.best, self.best_mb, self._forced = config, mb, dict(self.space.encode(raw))
        return True

    def improve(self) -> bool:
        """Try one round over every parameter; return whether it found a larger config."""
        improved = False
        for parameter in self.space.parameters():
            values: Sequence[Any] = []
            if isinstance(parameter.domain, Choice):
                values = parameter.domain.stored
            elif isinstance(parameter.domain, Int):
                values = parameter.domain.ends()
            for value in values:
                if self._forced.get(parameter.study_name, value) != value:
                    improved |= self.try_out(ProbeTrial({**self._forced, parameter.study_name: value}, _most))
        return improved

    def _summary(self, config: Config) -> Summary | None:
        key = repr(config.model)
        if key not in self._known:
            try:
                self._known[key] = summarize(config.model, self.data.image_shape, self.data.num_classes)
            except InputError:
                self._known[key] = None
        return self._known[key]


def _most(values: Sequence[Any]) -> Any:
    """Return the largest number; among names, `none`, which does not shrink an image, else the last."""
    if isinstance(values, range):
        return values[-1]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return max(values)
    return "none" if "none" in values else values[-1]
