"""When a trial counts as hanging: by the silence of its training, whatever the length of its epochs."""

from __future__ import annotations

import inspect
import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.trainable import function_trainable

from tests.helpers.ledgers import SHAPE, make_folder, report, study_of
from winnow.search.ray_backend import session, silence
from winnow.search.ray_backend.hangs import HangWatch
from winnow.search.ray_backend.silence import DEFAULT, NOTHING_MEASURED
from winnow.search.settings import settings_for
from winnow.search.storage.run_folder import heartbeat_name
from winnow.search.study.ledger import Ledger
from winnow.search.training.checkpoint import save
from winnow.search.training.heartbeat import LONGEST_WRITE, beat, beating, is_training, process_of
from winnow.spaces import catalog


class Search:
    """One running trial, a clock that the test sets, and a list of the trials whose workers were killed."""

    def __init__(self, folder: Path, checkpoints: str | None = None, **options: Any) -> None:
        space = catalog.load("digits", ["epochs=9"])
        settings = settings_for(space, trials=1, **options)
        self.ledger = Ledger(make_folder(folder, space, settings), space, settings, SHAPE)
        self.folder = folder
        self.seconds = 0.0
        self.killed: list[Any] = []
        where = checkpoints or str(folder)
        self.said: list[str] = []
        self.watch = HangWatch(
            self.ledger, where, self.said.append, lambda: self.seconds, kill_actor=self.killed.append
        )
        assignment = self.ledger.ask()
        assert assignment is not None
        self.assignment = assignment
        state = SimpleNamespace(ray_actor="actor of t")
        self.trial: Any = SimpleNamespace(trial_id="t", config={"number": assignment.number}, temporary_state=state)
        self.watch.on_trial_start(0, [], self.trial)

    def report(self, epoch: int, wall_seconds: float) -> None:
        result = report(self.assignment, epoch, wall_seconds=wall_seconds)
        self.watch.on_trial_result(0, [], self.trial, result)
        self.ledger.record(self.assignment.number, result)

    def beat(self, count: int) -> None:
        """Write the sign of life after so many batches."""
        (self.folder / heartbeat_name(self.assignment.number)).write_text(f"{count} 1 elsewhere")

    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.seconds += 1
            self.watch.check()

    @property
    def ended(self) -> dict[str, int]:
        return self.ledger.counts


def test_a_silent_trial_is_ended_and_its_worker_killed(tmp_path):
    search = Search(tmp_path, trial_timeout=60)
    search.beat(1)
    search.wait(36)  # the heartbeat is read after a quarter of the timeout
    search.report(1, 10.0)
    search.wait(60)
    assert not search.killed
    search.wait(1)
    assert search.killed == ["actor of t"]
    assert search.ended == {"timed_out": 1}
    search.watch.on_trial_error(0, [], search.trial)
    search.wait(100)
    assert len(search.killed) == 1


def test_a_long_epoch_is_no_silence(tmp_path):
    search = Search(tmp_path, trial_timeout=60)
    for count in range(1, 101):
        search.beat(count)
        search.wait(20)
    assert not search.killed
    search.wait(80)  # the last beat may have been read up to a quarter of the timeout late
    assert search.ended == {"timed_out": 1}


@pytest.mark.parametrize("seconds", [11, 1000])
def test_a_suspended_job_is_no_silence(tmp_path, seconds):
    """`scontrol suspend`, `docker pause`, Ctrl-Z: the driver and the workers stand still, and go on together."""
    search = Search(tmp_path, trial_timeout=5)
    search.beat(1)
    search.wait(3)
    for pause in range(3):
        search.seconds += seconds
        search.watch.check()
        search.wait(1)
        assert not search.killed
        search.beat(2 + pause)
        search.wait(3)
    search.seconds += seconds
    search.wait(8)
    assert search.ended == {"timed_out": 1}


def test_a_hang_is_found_by_a_driver_whose_steps_are_long(tmp_path):
    search = Search(tmp_path, trial_timeout=5)
    search.beat(1)
    for _ in range(4):  # the first pause is left out, in the second the beat is seen, and again
        assert not search.killed
        search.seconds += 60
        search.watch.check()
    assert search.ended == {"timed_out": 1}


class Trials:
    """The parts of Tune's controller that say which trials wait for their worker."""

    def __init__(self) -> None:
        self._pending_trials: set[Any] = set()
        self._trial_to_actor: dict[Any, str] = {}
        self._actor_manager = SimpleNamespace(_live_actors_to_ray_actors_resources={})

    def give_resources(self, trial: Any, actor: str) -> None:
        self._trial_to_actor[trial] = f"tracked {actor}"
        self._actor_manager._live_actors_to_ray_actors_resources[f"tracked {actor}"] = actor, "resources"


class Pending(SimpleNamespace):
    __hash__ = object.__hash__


@pytest.mark.parametrize("trial_timeout", [5, 400])
def test_a_worker_that_never_becomes_ready_is_killed_and_its_trial_stays_open(tmp_path, trial_timeout):
    """It stopped while it started, or in the end of its last trial."""
    search, controller = Search(tmp_path, trial_timeout=trial_timeout), Trials()
    search.watch.on_trial_complete(0, [], search.trial)
    trial = Pending(trial_id="u", config={"number": 7})
    controller._pending_trials.add(trial)
    allowed = max(300, trial_timeout)

    def wait(seconds: float) -> None:
        for _ in range(int(seconds)):
            search.watch.note_starting(controller)
            search.wait(1)

    wait(2 * allowed)  # for resources
    assert not search.killed
    controller.give_resources(trial, "first")
    wait(allowed - 1)
    controller.give_resources(trial, "second")  # another process, which became free, takes its place
    wait(allowed)
    assert not search.killed
    wait(1)
    assert search.killed == ["second"]
    assert search.said == [
        f"trial 7: its worker was not ready for {allowed} s and was killed; it had stopped, or did not end its last trial"
    ]
    wait(allowed - 2)  # until Ray tells that it is dead
    assert search.killed == ["second"]
    assert search.ended == {}
    controller.give_resources(trial, "third")
    wait(allowed - 2)
    controller._pending_trials.clear()
    search.watch.on_trial_start(0, [], trial)
    wait(3)
    assert search.killed == ["second"]


def test_what_says_which_workers_are_starting_exists_in_ray():
    """They are private attributes of Tune."""
    for name in ("_pending_trials", "_trial_to_actor", "_actor_manager"):
        assert f"self.{name}" in inspect.getsource(TuneController.__init__)
    assert "self._live_actors_to_ray_actors_resources" in inspect.getsource(RayActorManager.__init__)
    assert "self._tune_controller = tune_controller" in inspect.getsource(TrialRunnerWrapper.__init__)


def test_a_sign_after_the_last_look_counts(tmp_path):
    search = Search(tmp_path, trial_timeout=60)
    search.beat(1)
    search.wait(65)  # the last look was after 64 s
    search.beat(2)
    search.wait(70)
    assert not search.killed


def test_a_trial_whose_signs_cannot_be_written_stays_open(tmp_path):
    """The storage is full or away, so a trial that lives gives no sign either."""
    search = Search(tmp_path, trial_timeout=60)
    search.beat(1)
    search.wait(20)
    heartbeat = tmp_path / heartbeat_name(search.assignment.number)
    heartbeat.unlink()
    heartbeat.mkdir()
    with pytest.raises(IsADirectoryError):
        search.wait(100)
    assert not search.killed
    assert search.ended == {}
    heartbeat.rmdir()
    search.beat(2)
    search.wait(60)
    assert not search.killed


def start_slowly(search: Search, start: str) -> None:
    if start == "another process was killed before":
        search.beat(57)
        search.watch.on_trial_error(0, [], search.trial)
        search.watch.on_trial_start(0, [], search.trial)
    elif start == "reads its images":
        search.beat(0)
        search.wait(2)
    elif start == "reports what its checkpoint holds":
        search.report(1, 1.0)


@pytest.mark.parametrize(
    "start", ["imports", "reads its images", "reports what its checkpoint holds", "another process was killed before"]
)
def test_a_training_has_more_time_until_its_first_batch(tmp_path, start):
    search = Search(tmp_path, trial_timeout=5)
    start_slowly(search, start)
    search.wait(300)
    assert not search.killed
    search.wait(1)
    assert search.ended == {"timed_out": 1}


@pytest.mark.parametrize(
    ("beats", "options", "limit"),
    [
        (0, {"trial_timeout": 5}, "300 s until the first batch"),
        (1, {"trial_timeout": 400}, f"400 s by --trial-timeout, which is by default {DEFAULT}"),
        (1, {}, f"1800 s by --trial-timeout, which is by default {DEFAULT}"),
    ],
)
def test_the_message_says_where_the_limit_comes_from(tmp_path, beats, options, limit):
    search = Search(tmp_path, **options)
    search.beat(beats)
    search.wait(2000)
    search.ledger.close()
    (trial,) = study_of(search.ledger.folder).trials
    assert f"(the limit is {limit}); its worker was killed" in trial.user_attrs["error"]
    assert DEFAULT == "20 times the longest epoch, at least 300 s, and 1800 s before the first epoch has ended"


def test_after_the_first_batch_a_short_timeout_counts(tmp_path):
    search = Search(tmp_path, trial_timeout=5)
    search.beat(0)
    search.wait(200)
    search.beat(1)
    search.wait(8)  # read up to a quarter of the timeout late
    assert search.ended == {"timed_out": 1}


@pytest.mark.parametrize(("checkpoints", "between"), [(None, 2), ("s3://somewhere/checkpoints", 20)])
def test_no_timeout_is_shorter_than_two_heartbeats(tmp_path, monkeypatch, checkpoints, between):
    """A training whose batches take a tenth of a second beats only every 2 s, and every 20 s on an object store."""
    beats: list[bytes] = []
    monkeypatch.setattr(silence.storage, "read", lambda _: beats[-1])
    monkeypatch.setattr(silence.storage, "delete", lambda _: None)
    monkeypatch.setattr(silence, "write_beat", lambda *_: None)
    search = Search(tmp_path, checkpoints=checkpoints, trial_timeout=0.5)
    for second in range(10 * between):
        if second % between == 0:
            beats.append(f"{second + 1} 1 elsewhere".encode())
        search.wait(1)
    assert not search.killed
    search.wait(2 * between + 1)
    assert search.ended == {"timed_out": 1}


@pytest.mark.parametrize(("longest", "timeout"), [(None, NOTHING_MEASURED), (1.0, 300.0), (100.0, 2000.0)])
def test_the_default_follows_the_longest_epoch(tmp_path, longest, timeout):
    search = Search(tmp_path)
    if longest is not None:
        search.report(1, longest)
        search.report(2, longest / 2)
    assert search.watch.timeout == timeout
    search.wait(timeout)
    assert not search.killed
    search.wait(1)
    assert search.ended == {"timed_out": 1}


def test_after_a_signal_a_silent_trial_is_given_up_and_stays_open(tmp_path):
    search = Search(tmp_path, trial_timeout=600)
    search.report(1, 10.0)
    search.beat(1)
    search.wait(200)
    search.ledger.wind_down()
    search.wait(11)
    assert search.killed == ["actor of t"]
    assert search.watch.given_up == {"t"}
    assert search.ended == {}


@pytest.mark.parametrize(("scheme", "seconds"), [("", 2), ("file://", 21)])
def test_after_a_signal_a_trial_that_gets_ahead_is_waited_for(tmp_path, scheme, seconds):
    search = Search(tmp_path, f"{scheme}{tmp_path}", trial_timeout=600)
    search.report(1, 10.0)
    search.ledger.wind_down()
    for count in range(60):
        search.beat(count)
        search.wait(seconds)
    assert not search.killed


def test_after_a_signal_a_silent_trial_with_few_heartbeats_is_given_up_too(tmp_path):
    """As on an object store, where each is a request."""
    search = Search(tmp_path, f"file://{tmp_path}", trial_timeout=600)
    search.report(1, 10.0)
    search.ledger.wind_down()
    search.wait(40)
    assert not search.killed
    search.wait(1)
    assert search.killed == ["actor of t"]
    assert search.ended == {}


def test_a_training_beats_while_it_runs(tmp_path, monkeypatch):
    file = tmp_path / heartbeat_name(7)
    seconds = [100.0]
    monkeypatch.setattr("winnow.search.training.heartbeat.time.monotonic", lambda: seconds[0])
    beat()  # no training
    with beating(str(file)):
        starting = file.read_bytes()
        assert not is_training(starting)
        beat()  # the first batch is written at once: from then on the timeout counts
        first = file.read_bytes()
        assert is_training(first)
        beat()
        assert file.read_bytes() == first
        seconds[0] += 2.5
        beat()
        assert file.read_bytes() != first
        assert process_of(first) == os.getpid()
    assert not file.exists()


def test_a_training_beats_while_it_writes_to_a_slow_storage(tmp_path, monkeypatch):
    file = tmp_path / heartbeat_name(7)
    written = []

    def write(where: str, content: memoryview) -> None:
        """Take until the driver would have seen another sign."""
        before, deadline = file.read_bytes(), time.monotonic() + 10
        while file.read_bytes() == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        written.append(where)

    monkeypatch.setattr("winnow.search.training.heartbeat.LOCAL_SECONDS", 0.05)
    monkeypatch.setattr("winnow.search.storage.remote.write", write)
    with beating(str(file)):
        beat()
        save(tmp_path / "a.pt", {"epoch": 1})
    assert written == [str(tmp_path / "a.pt")]


def test_a_write_that_never_ends_is_no_slow_storage(tmp_path, monkeypatch):
    """Such as an upload that gets no answer, while small files can be written."""
    file = tmp_path / heartbeat_name(7)
    seconds = [100.0]

    def write(where: str, content: memoryview) -> None:
        for elapsed in (10, 1_000, LONGEST_WRITE - 1):
            before, deadline = file.read_bytes(), time.perf_counter() + 10
            seconds[0] = 100.0 + elapsed
            while file.read_bytes() == before:
                assert time.perf_counter() < deadline
                time.sleep(0.01)
        seconds[0] = 100.0 + LONGEST_WRITE
        before = file.read_bytes()
        time.sleep(0.5)  # ten intervals
        assert file.read_bytes() == before

    monkeypatch.setattr("winnow.search.training.heartbeat.LOCAL_SECONDS", 0.05)
    monkeypatch.setattr("winnow.search.training.heartbeat.time.monotonic", lambda: seconds[0])
    monkeypatch.setattr("winnow.search.storage.remote.write", write)
    with beating(str(file)):
        beat()
        save(tmp_path / "a.pt", {"epoch": 1})


def test_a_worker_has_time_to_end_a_trial_before_the_next(monkeypatch):
    """Otherwise Tune gives up after 2 s, and the next trial counts a lost worker."""
    waited = []

    def finish(timeout: float) -> None:
        waited.append(timeout)

    thread = SimpleNamespace(is_alive=lambda: True)
    monkeypatch.setattr(
        function_trainable, "get_session", lambda: SimpleNamespace(finish=finish, training_thread=thread)
    )
    monkeypatch.delenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", raising=False)
    session._import_ray()
    trainable: Any = None
    assert function_trainable.FunctionTrainable.reset_config(trainable, {}) is False
    assert waited == [60]
