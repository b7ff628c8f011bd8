"""What a dead worker left behind, and what the search makes of it."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal import RayActorManager
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError

from tests.helpers.ledgers import SHAPE, make_folder
from winnow.search.ray_backend.hangs import HangWatch
from winnow.search.ray_backend.tune import StopController
from winnow.search.ray_backend.worker_errors import killed_for_memory, lost_tasks_as_deaths
from winnow.search.settings import settings_for
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.training import kernel_kills
from winnow.search.training.heartbeat import beating
from winnow.spaces import catalog

KILLED = """Failure # 1 (occurred at 2026-11-28_13-20-27)
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, ID: 07ce) was 22.42GB used / 23.54GB limit (0.95)
OOM kill reason: Memory usage 24094308096B exceeded threshold of 24005530016B (95.0% of 25276502016B limit)
"""
DIED = "Failure # 2 (occurred at 2026-11-28_13-20-27)\nThe actor died unexpectedly before finishing this task.\n"


def test_only_the_last_death_counts(tmp_path):
    file = tmp_path / "error.txt"
    assert killed_for_memory(None) is None
    assert killed_for_memory(str(file)) is None
    file.write_text(KILLED)
    assert "memory of the node ran out (22.42GB of 23.54GB were used); fewer trials" in str(
        killed_for_memory(str(file))
    )
    file.write_text(KILLED + DIED)
    assert killed_for_memory(str(file)) is None


@pytest.mark.parametrize("lost", [OutOfMemoryError(KILLED), ObjectLostError("2a", None, "")], ids=["memory", "report"])
def test_tune_takes_a_lost_report_as_a_death(lost):
    """Without that it would raise the error, and so end the search."""
    seen: list[Exception] = []
    tracked: Any = SimpleNamespace(actor_id="a", _on_error=lambda _, error: seen.append(error))
    task: Any = SimpleNamespace(_tracked_actor=tracked, _on_error=None)
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with lost_tasks_as_deaths():
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=lost)
    (error,) = seen
    assert isinstance(error, RayActorError)
    assert str(error) == str(lost)
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        RayActorManager._actor_task_failed(manager, tracked_actor_task=task, exception=lost)


def test_a_trial_killed_for_memory_is_tried_in_pieces_and_then_out_of_memory(tmp_path):
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    (tmp_path / "error.txt").write_text(KILLED)
    lines: list[str] = []
    stopping = StopController(ledger, lines.append, HangWatch(ledger, str(tmp_path), lines.append))
    for pieces in (1, 4):
        assignment = ledger.ask()
        assert assignment is not None
        assert assignment.micro_batches == pieces
        trial: Any = SimpleNamespace(
            trial_id="t",
            config={"number": assignment.number},
            pickled_error_file=None,
            error_file=str(tmp_path / "error.txt"),
        )
        stopping.on_trial_error(1, [], trial)
    assert ledger.counts["out_of_memory"] == 1
    assert lines[0].startswith("trial 0: Ray killed its worker because the memory of the node ran out")
    ledger.close()


@pytest.mark.parametrize("deaths", ["kernel", "another cause"])
def test_a_trial_that_the_kernel_killed_for_memory_is_tried_in_pieces_too(tmp_path, monkeypatch, deaths):
    """The kernel's counter stands in a file here."""
    counter = tmp_path / "proc" / "vmstat"
    counter.parent.mkdir()
    counter.write_text("oom_kill 0\n")
    monkeypatch.setattr(kernel_kills, "ROOT", tmp_path)
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=1)
    ledger = Ledger(make_folder(tmp_path, space, settings), space, settings, SHAPE)
    lines: list[str] = []
    stopping = StopController(ledger, lines.append, HangWatch(ledger, str(tmp_path), lines.append))
    killed = deaths == "kernel"
    for number, pieces in enumerate((1, 4) if killed else (1, 1, 1, 1)):
        assignment = ledger.ask()
        assert assignment is not None
        assert assignment.micro_batches == pieces
        trial: Any = SimpleNamespace(
            trial_id="t", config={"number": assignment.number}, pickled_error_file=None, error_file=None
        )
        stopping.hangs.on_trial_start(1, [], trial)
        heartbeat = tmp_path / heartbeat_name(assignment.number)
        with beating(str(heartbeat)):
            last = heartbeat.read_bytes()
        heartbeat.write_bytes(last)  # a killed worker does not delete it
        if killed:
            counter.write_text(f"oom_kill {number + 1}\n")
        stopping.on_trial_error(1, [], trial)
        stopping.hangs.on_trial_error(1, [], trial)
    assert ledger.counts == ({"out_of_memory": 1} if killed else {"lost": 1})
    if killed:
        assert re.match(
            r"trial 0: the kernel killed its worker because the memory of the node ran out \(it used [\d.]+ GB a little earlier, and "
            r"the limit for all processes is [\d.]+ GB\); fewer trials at once \(--concurrent\), a smaller batch_size or",
            lines[0],
        )
    ledger.close()
