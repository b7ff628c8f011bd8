"""Tasks of Ray: a process that one of them spoiled runs no other, and one that hangs is replaced."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from winnow.search.ray_backend import tasks
from winnow.search.ray_backend.silence import STARTING, Silence
from winnow.search.ray_backend.tasks import Hangs, run_tasks
from winnow.search.training.heartbeat import beat, beating


def test_a_local_ray_starts_no_process_that_only_waits(shared_ray):
    """The session of these tests is one of `ray_session`."""
    started = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            started.update(Path(part).name for part in child.cmdline()[:4])
    assert {"gcs_server", "raylet"} <= started
    assert not {"dashboard.py", "monitor.py", "log_monitor.py"} & started


def task(spoils: bool) -> int:
    from winnow.search.training import process_state

    if spoils:
        process_state._spoiled.append("something")
    return os.getpid()


def test_a_process_that_a_task_spoiled_is_replaced(shared_ray):
    items = deque((number, (number == 0,)) for number in range(5))
    ended = list(run_tasks(shared_ray, task, items, {"cpu": 2, "gpu": 0}))  # one at a time
    numbers, processes = zip(*ended, strict=True)
    assert sorted(numbers) == [0, 1, 2, 3, 4]
    spoiler = numbers.index(0)
    assert processes[spoiler] not in processes[spoiler + 1 :]


def change() -> tuple[int, str]:
    import torch

    found = str(torch.get_default_dtype())
    torch.set_default_dtype(torch.float64)
    return os.getpid(), found


def test_what_a_task_changes_in_its_process_is_restored(shared_ray):
    """As the probes of `winnow plan` and the trainings of `winnow bench-recipes`, which run no `train_on`."""
    items = deque((number, ()) for number in range(4))
    ended = [result for _, result in run_tasks(shared_ray, change, items, {"cpu": 2, "gpu": 0})]  # one at a time
    assert len({process for process, _ in ended}) < 4
    assert {found for _, found in ended} == {"torch.float32"}


def hang(folder: str, how: str) -> str:
    """A training that hangs in its first try: it never returns, or its process is stopped."""
    with beating(f"{folder}/{how}.beat"):
        beat()
        first = Path(folder, how)
        if not first.exists():
            first.touch()
            while how == "never returns":
                time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGSTOP)
    return "done"


def test_a_task_that_hangs_is_killed_and_runs_again(shared_ray, tmp_path):
    items = deque((how, (str(tmp_path), how)) for how in ("never returns", "is stopped"))
    hangs = Hangs(lambda how: f"{tmp_path}/{how}.beat", limit=3.0)
    lines: list[str] = []
    tasks_ended = run_tasks(
        shared_ray, hang, items, {"cpu": 1, "gpu": 0}, hangs=hangs, say=lines.append, name=lambda how: f"one that {how}"
    )
    assert dict(tasks_ended) == {"never returns": "done", "is stopped": "done"}
    assert {line.partition(":")[0] for line in lines} == {"one that never returns", "one that is stopped"}
    assert all(": no sign of life for " in line for line in lines)
    assert all(line.endswith("; its worker was killed; it runs again") for line in lines)


@pytest.mark.parametrize(("run_again", "tries"), [pytest.param(True, 4, marks=pytest.mark.slow), (False, 1)])
def test_a_task_that_always_hangs_times_out(shared_ray, tmp_path, run_again, tries):
    items = deque([("a", (str(tmp_path),))])
    hangs = Hangs(lambda _: f"{tmp_path}/a.beat", limit=1.0, run_again=run_again)
    ((_, result),) = run_tasks(shared_ray, _always_hang, items, {"cpu": 1, "gpu": 0}, hangs=hangs)
    assert result.status == "timed_out"
    assert "no sign of life for" in result.text
    assert (tmp_path / "tries").read_text() == "x" * tries


def _always_hang(folder: str) -> None:
    with Path(folder, "tries").open("a") as file:
        file.write("x")
    with beating(f"{folder}/a.beat"):
        beat()
        time.sleep(1000)


@pytest.mark.slow
def test_a_task_that_imports_and_reads_for_longer_than_the_timeout_is_not_killed(shared_ray, tmp_path):
    hangs = Hangs(lambda _: f"{tmp_path}/a.beat", limit=1.0)
    ended = run_tasks(shared_ray, _start_slowly, deque([("a", (str(tmp_path),))]), {"cpu": 1, "gpu": 0}, hangs=hangs)
    assert dict(ended) == {"a": "done"}


def _start_slowly(folder: str) -> str:
    """It writes down that it was started twice, if it was."""
    tries = Path(folder, "tries")
    with tries.open("a") as file:
        file.write("x")
    with beating(f"{folder}/a.beat"):
        time.sleep(5)
        beat()
        return "done" if tries.read_text() == "x" else "killed and started again"


class Cancelling:
    """A Ray that notes which tasks are cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    def cancel(self, reference: str, force: bool) -> None:
        self.cancelled.append(reference)


@pytest.mark.parametrize(
    ("sign", "allowed"), [(None, 10_000.0), ("0 1 elsewhere", STARTING), ("1 1 elsewhere", 5.0)], ids=str
)
def test_the_timeout_of_a_task_counts_from_its_first_batch(tmp_path, sign, allowed):
    seconds, ray, file = [0.0], Cancelling(), tmp_path / "a.beat"
    running: tasks._Running[str] = tasks._Running("a", (), silence=Silence(str(file), lambda: seconds[0]))
    if sign:
        file.write_text(sign)
    seconds[0] = 2.0
    tasks._kill_hung(ray, {"a": running}, 5.0)  # reads the sign
    for _ in range(int(allowed)):
        seconds[0] += 1
        tasks._kill_hung(ray, {"a": running}, 5.0)
    assert not ray.cancelled
    seconds[0] += 1
    tasks._kill_hung(ray, {"a": running}, 5.0)
    assert ray.cancelled == (["a"] if sign else [])
    assert not sign or f"the limit is {allowed:.0f} s" in (running.hung or "")


def test_a_suspended_job_kills_no_task(tmp_path):
    seconds, ray, file = [0.0], Cancelling(), tmp_path / "a.beat"
    running: tasks._Running[str] = tasks._Running("a", (), silence=Silence(str(file), lambda: seconds[0]))
    file.write_text("1 1 elsewhere")
    for passed in (2.0, 1000.0, 2.0):
        seconds[0] += passed
        tasks._kill_hung(ray, {"a": running}, 5.0)
    assert not ray.cancelled


def test_a_task_whose_signs_cannot_be_written_is_not_killed(tmp_path):
    seconds, ray, file = [0.0], Cancelling(), tmp_path / "a.beat"
    silence = Silence(str(file), lambda: seconds[0])
    file.write_text("1 1 elsewhere")
    seconds[0] = 2.0
    assert silence.seconds(0.0) == 0.0
    file.unlink()
    file.mkdir()
    seconds[0] = 10.0
    with pytest.raises(IsADirectoryError):
        tasks._kill_hung(ray, {"a": tasks._Running("a", (), silence=silence)}, 5.0)
    assert not ray.cancelled


def test_a_wait_for_resources_is_reported(shared_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "PATIENCE", 1.0)
    cpus = shared_ray.cluster_resources()["CPU"]
    lines: list[str] = []
    other = shared_ray.remote(num_cpus=cpus)(_occupy).remote()
    hangs = Hangs(lambda how: f"{tmp_path}/{how}.beat", limit=100.0)
    ended = run_tasks(
        shared_ray, _beat, deque([("a", (str(tmp_path),))]), {"cpu": 1, "gpu": 0}, hangs=hangs, say=lines.append
    )
    assert dict(ended) == {"a": "done"}
    shared_ray.get(other)
    assert lines == [f"waiting: Ray has {cpus:g} CPUs, 0 are free, and a training needs 1"]


def test_tasks_that_wait_for_each_other_are_no_wait_for_others(shared_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "PATIENCE", 4.0)
    needs = {"cpu": shared_ray.cluster_resources()["CPU"], "gpu": 0}
    lines: list[str] = []
    todo = deque((name, ()) for name in "abcde")
    hangs = Hangs(lambda how: f"{tmp_path}/{how}.beat", limit=100.0)
    assert len(list(run_tasks(shared_ray, _rest, todo, needs, hangs=hangs, say=lines.append))) == 5
    assert lines == []


def _rest() -> None:
    time.sleep(1.2)


def _beat(folder: str) -> str:
    with beating(f"{folder}/a.beat"):
        return "done"


def _occupy() -> None:
    time.sleep(8)
