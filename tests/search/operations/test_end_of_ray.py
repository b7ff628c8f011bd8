"""Every command that waits for Ray ends at once, with the way on, if a server of Ray dies meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.tiny import tiny_config, tiny_data
from winnow.search.operations import probing, reproduction
from winnow.search.operations.execution import packing_of
from winnow.search.ray_backend.measure_packing import _typical
from winnow.search.ray_backend.shared_data import SharedData
from winnow.search.resources.plan import ResourcePlan
from winnow.search.settings import settings_for
from winnow.spaces import catalog
from winnow.spaces.errors import ModelRefused

PLAN = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The advice that would be printed now if Ray died; empty if its servers are not watched."""
    advice: list[str] = []

    @contextmanager
    def watch(text: str) -> Iterator[None]:
        advice.append(text)
        yield
        advice.clear()

    monkeypatch.setattr("winnow.search.ray_backend.end_with_ray.ending_with_ray", watch)
    return advice


def test_the_measurement_of_concurrent_trials(watched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []
    monkeypatch.setattr(
        "winnow.search.ray_backend.measure_packing.measure_packing", lambda *_: found.append([*watched])
    )
    packing_of(None, catalog.load("digits"), tiny_data(), 0, print)("cpu", 2.0)
    assert found == [["Nothing is lost. Start the command again."]]
    assert not watched


def test_the_probe_of_a_plan(watched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []

    def run_tasks(*_: Any, **__: Any) -> Iterator[Any]:
        found.append([*watched])
        yield from ()

    for name, stand_in in (
        ("ray_backend.session.ray_session", lambda *_: nullcontext(SimpleNamespace(put=lambda data: data))),
        ("ray_backend.tasks.run_tasks", run_tasks),
        ("resources.largest_config.largest_config", lambda *_: tiny_config()),
        ("resources.largest_config.sample_configs", lambda *_: [tiny_config()]),
        ("resources.plan.plan_resources", lambda *_: PLAN),
    ):
        monkeypatch.setattr(f"winnow.search.{name}", stand_in)
    space = catalog.load("digits")
    devices = SimpleNamespace(check_one_gpu=lambda _: None, check_here=lambda: None, num_cpus=1, num_gpus=0)
    execution: Any = SimpleNamespace(devices=devices, address=None)
    forecast: Any = None
    with pytest.raises(probing.InputError, match="every model that was probed"):
        probing._probe(space, tiny_data(), settings_for(space), forecast, execution, print)
    assert found == [["Plan again."]] * 2
    assert not watched


def test_the_trainings_of_bench_recipes(watched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found: list[list[str]] = []
    monkeypatch.setattr(reproduction, "_read_data", lambda recipes, keys, *_: dict.fromkeys(keys.values()))
    monkeypatch.setattr(reproduction, "_run", lambda *_: found.append([*watched]))
    execution: Any = SimpleNamespace(
        devices=SimpleNamespace(check_one_gpu=lambda command: None),
        connected=lambda: execution,
        view=SimpleNamespace(message=lambda text: None),
        new_source=None,
        workers=lambda *_: nullcontext((None, PLAN, [SharedData(None)])),
    )
    reproduction.bench_recipes(["cifar100-a1"], [], seeds=1, output=tmp_path, execution=execution)
    assert found == [["Finished trainings are kept: start the command again."]]


def test_configs_that_the_users_own_model_refuses_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {4: 400, 5: 500, 6: 600}

    def summarize(model: Any, *_: Any) -> Any:
        filters = model.stages[0].filters
        if filters not in costs:
            raise ModelRefused("too wide")
        return SimpleNamespace(multiply_adds=costs[filters])

    monkeypatch.setattr("winnow.models.summarize", summarize)
    space = catalog.load("digits")
    configs = [tiny_config(model={"name": "cnn", "stages": [{"filters": filters}]}) for filters in (9, 6, 8, 5, 4)]
    assert _typical(space, tiny_data(), configs) == configs[3]
    assert _typical(space, tiny_data(), configs[:1]) == space.example()
