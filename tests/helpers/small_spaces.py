"""Small spaces of the digits, and configs drawn from them."""

from __future__ import annotations

from typing import Any

import optuna

from winnow.spaces.space import Space

BASE: dict[str, Any] = {
    "data": "digits",
    "epochs": 4,
    "batch_size": 32,
    "model": {"name": "cnn", "stages": [{"filters": 8}]},
    "optimizer": {"name": "adam", "lr": 0.001},
}


def make(**changes: Any) -> Space:
    return Space.from_tree({**BASE, **changes}, "test.yaml")


def ask(space: Space, seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A raw config as a study draws it, and the parameters of its trial."""
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    return space.suggest(trial), trial.params
