"""The benchmark of fronts by real trainings, on tiny images and with a clock that counts epochs."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.search_quality import real_fronts
from tests.helpers.tiny import tiny_data
from winnow.search.storage.json_lines import read_json_lines
from winnow.spaces.space import Space

NAMES = ("Optuna TPE", "Optuna NSGA-II", "random", "tpe", "forecast")


def tiny_space() -> Space:
    tree = {
        "data": {"name": "npz", "path": "unused.npz"},
        "epochs": 4,
        "batch_size": 16,
        "precision": "float32",
        "model": {"name": "mlp", "hidden": [{"int": [2, 32]}]},
        "optimizer": {"name": "adam", "lr": {"log": [0.001, 0.1]}},
        "search": {"objectives": ["validation_accuracy", {"minimize": "parameters"}]},
    }
    return Space.from_tree(tree, "tiny")


@pytest.mark.parametrize("name", NAMES)
def test_a_search_trains_for_its_time_and_is_the_same_twice(name: str) -> None:
    space, data = tiny_space(), tiny_data(60)

    def found() -> dict[str, Any]:
        ticks = count()
        trainer = real_fronts.Trainer(space, data, 3, torch.device("cpu"), clock=lambda: float(next(ticks)))
        return real_fronts.search(real_fronts.contenders(space, data, 3)[name](), trainer, 24.0)

    first = found()
    assert first == found()
    assert first["epochs"] == 25  # each takes one tick; the last one is beyond the time
    assert first["completed"]
    if name.startswith("Optuna"):
        assert first["trials"] == 7
        assert len(first["completed"]) == 6
    else:
        assert first["trials"] > 7  # some were stopped or paused
    assert all(0 <= accuracy <= 1 and size > 100 for accuracy, size in first["completed"])


def test_a_paused_training_continues_as_if_it_had_not_been() -> None:
    space, data = tiny_space(), tiny_data(60)
    number, config = real_fronts.contenders(space, data, 0)["random"]().ask()
    whole, parts = (real_fronts.Trainer(space, data, 0, torch.device("cpu")) for _ in range(2))
    expected = [(epoch, accuracy) for epoch, accuracy, _ in whole.epochs(number, config)]
    found = []
    while len(found) < 4:
        epoch, accuracy, _ = next(iter(parts.epochs(number, config)))
        found.append((epoch, accuracy))
    assert found == expected


def test_results_are_kept_by_protocol_and_compared_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space, data, path = tiny_space(), tiny_data(60), tmp_path / "results.jsonl"
    protocol = {"seconds": 0.0, "device": "cpu"}
    real_fronts.run_all(space, data, ("Optuna TPE",), 1, protocol, path)
    real_fronts.run_all(space, data, ("Optuna TPE",), 1, protocol, path)
    assert len(list(read_json_lines(path))) == 1
    real_fronts.run_all(space, data, ("Optuna TPE",), 1, {**protocol, "seconds": 1e-9}, path)
    assert len(list(read_json_lines(path))) == 2
    capsys.readouterr()
    about = {"chance": 0.1, "trials": 9, "epochs": 30}
    runs = [
        {"seed": seed, "contender": name, "completed": completed, **about}
        for seed in (0, 1)
        for name, completed in (
            ("Optuna TPE", [(0.55, 1000), (0.1, 10)]),
            ("Optuna NSGA-II", []),
            ("forecast", [(1.0, 100), (0.5, 100)]),
        )
    ]
    # Of the square above guessing and 1000 parameters: 0.5 of the accuracy at no gain of size, and all of it at half the gain.
    assert real_fronts.volumes(runs[:3], 0.1) == [pytest.approx(0.0), 0.0, pytest.approx(0.5)]
    text = real_fronts.table(runs, ("Optuna TPE", "Optuna NSGA-II", "forecast"))
    assert "| forecast | 0.500 |" in text
    assert "| 9 | 2 | 30 | 2 |" in text
    assert real_fronts.table(runs[:3], NAMES) == "No seed was searched by all contenders."
