"""What becomes of tasks whose process is lost, with a stand-in for Ray that runs them at once and raises what Ray would raise."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import pytest
from ray import exceptions

from winnow.search.ray_backend.tasks import Hangs, run_tasks
from winnow.search.training import kernel_kills
from winnow.search.training.errors import DeviceLost, Failed
from winnow.search.training.heartbeat import beating
from winnow.search.training.process_state import SpoiledProcess

RESOURCES = {"cpu": 1.0, "gpu": 0.0}


class FakeRay:
    exceptions = exceptions

    def remote(self, **options: Any) -> Callable[..., Any]:
        assert options["max_retries"] == 0, "Ray would run a task again without counting"

        class Task:
            @staticmethod
            def remote(function: Callable[..., Any], *arguments: Any) -> Any:
                return lambda: function(*arguments)

        return lambda function: Task

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: Callable[[], Any]) -> Any:
        result = reference()
        if isinstance(result, Exception):
            raise result
        return result


def raised(cause: Exception) -> Exception:
    """What `ray.get` raises for a task that raised `cause`."""
    return exceptions.RayTaskError("task", "the traceback", cause).as_instanceof_cause()


def run(function: Callable[[str], Any], names: str, epoch: Callable[[str], int] = lambda name: 0) -> dict[str, Any]:
    todo = deque((name, (name,)) for name in names)
    ended = dict(run_tasks(FakeRay(), function, todo, RESOURCES, 2, epoch))
    return {name: result.status if isinstance(result, Failed) else result for name, result in ended.items()}


def test_losses_are_counted_while_no_epoch_is_finished():
    tries: Counter[str] = Counter()

    def task(name: str) -> Any:
        tries[name] += 1
        if name == "a" and tries[name] < 9:  # an epoch each time
            return exceptions.WorkerCrashedError()
        if name == "b":
            return exceptions.WorkerCrashedError()
        if name == "c" and tries[name] < 4:
            return raised(DeviceLost("AcceleratorError: device-side assert"))
        return "done"

    results = run(task, "abc", epoch=lambda name: tries[name] if name == "a" else 0)
    assert results == {"a": "done", "b": "lost", "c": "done"}
    assert tries == {"a": 9, "b": 4, "c": 4}


def test_a_task_that_an_earlier_one_kept_from_starting_is_not_charged():
    tries: Counter[str] = Counter()

    def task(name: str) -> Any:
        tries[name] += 1
        return raised(SpoiledProcess("an earlier task")) if tries[name] < 9 else "done"

    assert run(task, "a") == {"a": "done"}


def test_a_loss_is_told_if_the_task_runs_again():
    """One that had not begun has lost nothing."""
    outcomes = [exceptions.WorkerCrashedError(), raised(SpoiledProcess("an earlier task")), "done"]
    lines: list[str] = []
    todo = deque([(7, ())])
    ended = run_tasks(FakeRay(), lambda: outcomes.pop(0), todo, RESOURCES, say=lines.append, name=lambda n: f"seed {n}")
    assert dict(ended) == {7: "done"}
    assert lines == ["seed 7: its worker was lost; it runs again"]


def test_a_process_that_ray_killed_for_memory():
    assert run(lambda name: exceptions.OutOfMemoryError("killed"), "a") == {"a": "out_of_memory"}


def test_a_process_that_the_kernel_killed_for_memory(tmp_path, monkeypatch):
    """The kernel's counter stands in a file here."""
    counter = tmp_path / "proc" / "vmstat"
    counter.parent.mkdir()
    counter.write_text("oom_kill 0\n")
    monkeypatch.setattr(kernel_kills, "ROOT", tmp_path)
    tries: Counter[str] = Counter()

    def task(name: str) -> Any:
        tries[name] += 1
        heartbeat = tmp_path / name
        with beating(str(heartbeat)):
            last = heartbeat.read_bytes()
        heartbeat.write_bytes(last)  # a killed process does not delete it
        if name == "a":
            counter.write_text("oom_kill 1\n")
        return exceptions.WorkerCrashedError()

    todo = deque((name, (name,)) for name in "ab")
    hangs: Hangs[str] = Hangs(lambda name: str(tmp_path / name), 60.0)
    results = dict(run_tasks(FakeRay(), task, todo, RESOURCES, 1, hangs=hangs))
    assert {name: result.status for name, result in results.items()} == {"a": "out_of_memory", "b": "lost"}
    assert results["a"].text.startswith("the kernel killed its worker because the memory of the node ran out (it used ")
    assert tries == {"a": 1, "b": 4}


def test_what_is_appended_between_two_results_runs_too():
    todo = deque([("a", (1,))])
    seen = []
    for name, result in run_tasks(FakeRay(), lambda number: number, todo, RESOURCES):
        seen.append((name, result))
        if name == "a":
            todo.append(("b", (2,)))
    assert seen == [("a", 1), ("b", 2)]


def test_a_bug_is_raised():
    with pytest.raises(ValueError, match="the traceback"):
        run(lambda name: raised(ValueError("a bug")), "a")
