"""The simulation and the tables of the benchmark of search quality, on a task made up here."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from benchmarks.search_quality import fronts, memory
from benchmarks.search_quality.contenders import CONTENDERS
from benchmarks.search_quality.efficiency_tables import tables
from benchmarks.search_quality.simulation import simulate
from benchmarks.search_quality.tasks import DIGITS, Params, Recorded, RecordedTree, Task, digits_tasks, suggest_all

SPACE = {"x": FloatDistribution(0, 1)}


def _task() -> Task:
    def curve(params: Params) -> np.ndarray:
        return np.linspace(0.1, 1, 16) * (1 - abs(params["x"] - 0.6))

    return Task("made-up", "family", 16, partial(suggest_all, SPACE), curve, best=1.0, median=0.75)


@pytest.mark.parametrize("name", ["random + ASHA", "one rung", "TPE + ASHA", "forecast"])
def test_a_search_finds_good_configs_and_is_the_same_twice(name: str) -> None:
    marks = [simulate(CONTENDERS[name](_task(), 3), _task(), [2, 8], num_workers=2) for _ in range(2)]
    assert marks[0] == marks[1]
    assert _task().regret(marks[0][1][0]) < 40
    assert marks[0][0][1] < marks[0][1][1]


def test_a_config_that_was_not_trained_is_answered_by_the_nearest() -> None:
    parameters = {"lr": {"float": [1e-4, 1.0], "log": True}, "size": {"choice": [10, 20]}}
    curves = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
    recorded = Recorded(parameters, [[1e-4, 1e-2, 1e-2], [10, 10, 20]], curves)
    assert recorded.curve({"lr": 2e-3, "size": 10})[1] == 0.4
    assert recorded.curve({"lr": 2e-4, "size": 10})[1] == 0.2
    assert recorded.curve({"lr": 1.0, "size": 20})[1] == 0.6
    assert isinstance(recorded.space["size"], CategoricalDistribution)
    assert recorded.scale[0] == 0.6


def test_a_config_with_conditions_is_answered_by_the_nearest() -> None:
    def suggest(trial: Any) -> None:
        if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
            trial.suggest_float("momentum", 0.0, 1.0)

    configs: list[Params] = [{"optimizer": "adam"}, *({"optimizer": "sgd", "momentum": x} for x in (0.1, 0.9))]
    recorded = RecordedTree(suggest, configs, [[0.1], [0.2], [0.3]])
    assert [recorded.curve(config)[0] for config in configs] == [0.1, 0.2, 0.3]
    assert recorded.curve({"optimizer": "sgd", "momentum": 0.7})[0] == 0.3


@pytest.mark.parametrize("name", ["random + ASHA", "one rung", "forecast"])
def test_the_recorded_digits_are_searched(name: str) -> None:
    assert DIGITS.stat().st_size < 1e6
    task = digits_tasks()[0]
    marks = simulate(CONTENDERS[name](task, 3), task, [2], num_workers=2)
    assert task.best >= marks[0][0] > 0


def test_tables_compare_on_tasks_that_all_have_run() -> None:
    runs = [
        {"contender": name, "task": task, "family": "a", "workers": 4, "noise": 0.0, "seed": 0, "regrets": [regret]}
        for name, regret in (("forecast", 10.0), ("random + ASHA", 30.0))
        for task in ("t1", "t2")
    ]
    runs.append({**runs[0], "contender": "TPE + ASHA"})  # on one task only: left out
    text = tables(runs, {"dev": ["t1", "t2"]}, [5])
    assert "| forecast | 10 | 0 |  | 1.00 | -20 (t1) |" in text
    assert "| random + ASHA | 30 | 20 | +20 [+20, +20] | 2.00 |  |" in text
    assert "TPE" not in text
    assert tables(runs, {"dev": ["t1", "t2"]}, [5, 10]) == text  # no run has reached the second budget


def test_the_family_in_which_a_searcher_is_most_behind_the_best_is_in_the_table() -> None:
    regrets = {
        ("forecast", "a"): 10.0,
        ("forecast", "b"): 50.0,
        ("random + ASHA", "a"): 30.0,
        ("random + ASHA", "b"): 45.0,
    }
    runs = [
        {
            "contender": name,
            "task": f"of {family}",
            "family": family,
            "workers": 4,
            "noise": 0.0,
            "seed": 0,
            "regrets": [value],
        }
        for (name, family), value in regrets.items()
    ]
    text = tables(runs, {"dev": ["of a", "of b"]}, [5])
    assert "| forecast | 10 | 50 | 5 |" in text
    assert "| random + ASHA | 30 | 45 | 20 |" in text


def test_tables_stop_at_the_last_budget_that_all_searchers_have_reached() -> None:
    runs = [
        {"contender": name, "task": "t1", "family": "a", "workers": 4, "noise": 0.0, "seed": 0, "regrets": regrets}
        for name, regrets in (("forecast", [10.0, 5.0, 1.0]), ("random + ASHA", [30.0, 20.0]))
    ]
    text = tables(runs, {"dev": ["t1"]}, [2, 5, 10])
    assert "After the cost of 2 / 5 full trainings." in text
    assert "| forecast | 10 / 5 |" in text
    assert "| random + ASHA | 30 / 20 |" in text


def test_tables_say_so_if_no_searcher_has_run_on_all_tasks() -> None:
    runs = [
        {"contender": name, "task": task, "family": "a", "workers": 4, "noise": 0.0, "seed": 0, "regrets": [1.0]}
        for name, task in (("forecast", "t1"), ("random + ASHA", "t2"))
    ]
    assert "No searcher has run on all of these tasks." in tables(runs, {"dev": ["t1", "t2"]}, [2])


@pytest.mark.parametrize("name", ["forecast, learn-from", "random + ASHA, portfolio of 8", "random + ASHA, learn-from"])
def test_a_search_that_learns_begins_where_an_earlier_one_ended(name: str, tmp_path: Path) -> None:
    earlier = {"other": memory.earlier_run(replace(_task(), name="other"), tmp_path)}
    assert (tmp_path / "other.json").is_file()
    marks = [simulate(memory.contenders(_task(), 3, earlier)[name](), _task(), [2, 8], num_workers=2) for _ in range(2)]
    assert marks[0] == marks[1]
    assert _task().regret(marks[0][0][0]) < 10


def test_a_recorded_task_learns_from_tasks_of_its_space(capsys: pytest.CaptureFixture[str]) -> None:
    def narrow(trial: Any) -> None:
        trial.suggest_float("x", 0.0, 0.5)

    tasks = [replace(_task(), name="a"), replace(_task(), name="alone", suggest=narrow), replace(_task(), name="b")]
    assert [task.name for task in memory.with_teachers(tasks)] == ["a", "b"]
    assert capsys.readouterr().out == "alone: left out, because no other task has its space\n"


def test_the_table_of_memory_is_paired() -> None:
    names = ["forecast", "forecast, learn-from"]
    runs = [
        {"task": task, "seed": 0, "contender": name, "regrets": [regret] * 3}
        for name, regret in zip(names, (30.0, 10.0), strict=True)
        for task in ("t1", "t2")
    ]
    text = memory.table(runs, names)
    assert "| 5 | forecast | 30.0 |  |  | 2 | 1 |" in text
    assert "| 5 | forecast, learn-from | 10.0 | +20.0 (+20.0 to +20.0) | +20.0 | 2 | 1 |" in text


@pytest.mark.parametrize("name", fronts.CONTENDERS)
def test_a_front_is_found_and_is_the_same_twice(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fronts, "BUDGETS", [2, 6])
    space = {
        "x": FloatDistribution(0, 1),
        "max_units": IntDistribution(64, 1024, log=True),
        "num_layers": IntDistribution(1, 5),
    }
    task = replace(_task(), suggest=partial(suggest_all, space))
    volumes = [fronts.volumes(fronts.CONTENDERS[name](task, 3), task) for _ in range(2)]
    assert volumes[0] == volumes[1]
    assert 0 <= volumes[0][0] <= volumes[0][1] <= 1
    assert volumes[0][1] > 0
