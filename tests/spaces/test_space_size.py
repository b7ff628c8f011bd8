"""The number of configs in a space."""

from __future__ import annotations

import json
import math
from itertools import count
from typing import Any

import pytest

from tests.helpers.small_spaces import make
from winnow.spaces.space import Space


class Enumeration:
    """A trial that takes the options given, then the first ones, and notes how many there were each time."""

    def __init__(self, prefix: list[int]) -> None:
        self.prefix = prefix
        self.taken: list[tuple[int, int]] = []

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        position = len(self.taken)
        index = self.prefix[position] if position < len(self.prefix) else 0
        self.taken.append((index, len(choices)))
        return list(choices)[index]

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self.suggest_categorical(name, range(low, high + 1, step))


def enumerate_configs(space: Space) -> list[str]:
    found, prefix = [], []
    for _ in count():
        trial = Enumeration(prefix)
        found.append(json.dumps(space.suggest(trial)))
        while trial.taken and trial.taken[-1][0] + 1 == trial.taken[-1][1]:
            trial.taken.pop()
        if not trial.taken:
            return found
        prefix = [index for index, _ in trial.taken[:-1]] + [trial.taken[-1][0] + 1]
    raise AssertionError


FINITE: list[dict[str, Any]] = [
    {"batch_size": {"choice": [1, 2, 3]}, "epochs": {"int": [2, 6], "step": 2}},
    {"model": {"name": "mlp", "depth": {"int": [0, 3]}, "hidden": {"repeat": "depth", "of": {"choice": [8, 16]}}}},
    {
        "model": {
            "choice": {"mlp": {"hidden": {"repeat": 2, "of": {"int": [1, 3]}}}, "cnn": {"stages": [{"filters": 8}]}}
        }
    },
    {
        "model": {
            "name": "x:y",
            "a": {"int": [1, 2]},
            "b": {"choice": [1, 3]},
            "c": {"repeat": "a", "of": {"n": {"choice": ["p", "q"]}}},
            "d": {"repeat": "a", "of": {"choice": [0.5, 1.5]}},
            "e": {"repeat": "b", "of": {"k": {"int": [1, 2]}, "l": {"repeat": "k", "of": {"choice": [1, 2]}}}},
        }
    },
]


@pytest.mark.parametrize("changes", FINITE, ids=range(len(FINITE)))
def test_size_counts_the_configs(changes: dict[str, Any]) -> None:
    space = make(**changes)
    found = enumerate_configs(space)
    assert len(found) == len(set(found)) == space.size()


def test_a_continuous_range_makes_it_infinite() -> None:
    assert make(optimizer={"name": "adam", "lr": {"log": [1e-4, 1e-2]}}).size() == math.inf
    model = {"name": "mlp", "depth": {"int": [0, 1]}, "hidden": {"repeat": "depth", "of": {"int": [1, 5]}}}
    assert make(model=model).size() == 6
