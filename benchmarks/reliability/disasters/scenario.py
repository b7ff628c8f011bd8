"""The searches that are simulated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from winnow.search.settings import Settings, settings_for
from winnow.spaces.space import Space

SCENARIOS = 48
"""Different searches; the undisturbed one of each is simulated once."""
SPACE = {
    "data": "digits",
    "epochs": 4,
    "batch_size": {"choice": [64, 128]},
    "model": {"name": "mlp", "hidden": {"choice": [[16], [32]]}, "dropout": {"float": [0.0, 0.4], "step": 0.1}},
    "optimizer": {"name": "sgd", "lr": {"log": [0.001, 0.1]}},
}


@dataclass(frozen=True)
class Scenario:
    """A search, and how many workers it has."""

    space: Space
    settings: Settings
    workers: int
    extension: int
    """Trials by which the search is extended once it is over; 0: it is not."""


@cache
def scenario(number: int) -> Scenario:
    """The search of this number."""
    rng = random.Random(f"scenario {number}")
    space = Space.from_tree(SPACE, source="simulated.yaml")
    settings = settings_for(
        space,
        trials=rng.randint(3, 6),
        sampler=rng.choice(["random", "random", "tpe", "qmc", "forecast"]),
        seed=number,
        grace_epochs=rng.choice([1, 2]),
        reduction_factor=rng.choice([2.0, 3.0]),
        audit=rng.choice([0.0, 0.0, 0.6]),
        top=2,
        seeds=2,
        trial_timeout=rng.choice([None, None, 100.0]),
        keep_predictions=number % 3 == 0,
    )
    return Scenario(space, settings, rng.choice([1, 1, 2, 3]), rng.choice([0, 0, 1, 2]))
