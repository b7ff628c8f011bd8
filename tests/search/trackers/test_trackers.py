"""`--log`: what TensorBoard, MLflow and Weights & Biases hold after a search that was cut short and resumed, through their own libraries."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.ledgers import RECORDED_DATA, SHAPE, run_to_the_end
from tests.helpers.offline_wandb import offline_runs
from winnow import reports
from winnow.reports.reading.run import read_records
from winnow.search.cli.main import main
from winnow.search.operations.execution import Execution
from winnow.search.ray_backend import tune
from winnow.search.resources.plan import ResourcePlan
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.json_lines import JsonLines
from winnow.search.storage.run_folder import RunFolder, create
from winnow.search.study.ledger import Ledger
from winnow.search.study.trials import Event
from winnow.search.trackers import following as trackers
from winnow.search.trackers.base import Record, figures
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

needs_tensorboard = pytest.mark.skipif(
    not importlib.util.find_spec("tensorboard"), reason="tensorboard is not installed"
)
needs_mlflow = pytest.mark.skipif(not importlib.util.find_spec("mlflow"), reason="mlflow is not installed")


@pytest.fixture(scope="module")
def space() -> Space:
    return catalog.load("digits", ["epochs=6"])


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers are given up for lack of an answer only in the tests about that: beside other work, a library may take seconds."""
    monkeypatch.setattr(trackers, "PATIENCE", 60.0)


def start(folder: RunFolder, space: Space, settings: Settings, name: str, crash_after: int | None = None) -> list[str]:
    """One start of a search that logs to `name`; what it said."""
    said: list[str] = []
    with trackers.following([name], folder, space, said.append) as listener:
        run_to_the_end(Ledger(folder, space, settings, SHAPE, listener), crash_after)
    return said


def new_run(folder: Path, space: Space, settings: Settings) -> RunFolder:
    study = {
        "schema_version": 1,
        "space": space.tree,
        "settings": settings.to_dict(),
        "created": "2026-11-21",
        "data": RECORDED_DATA,
    }
    return create(folder, "it's mine", "run", study)


def expected_curves(folder: RunFolder) -> dict[int, list[tuple[int, float]]]:
    curves: dict[int, list[tuple[int, float]]] = {}
    for line in read_records(folder.path).epoch_lines:
        curves.setdefault(line["trial"], []).append((line["epoch"], line["validation_accuracy"]))
    return curves


@needs_tensorboard
def test_tensorboard_holds_every_epoch_once(tmp_path, space):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = settings_for(space, trials=6)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "tensorboard", crash_after=9) == []
    assert start(folder, space, settings, "tensorboard") == []
    rows = {row["trial"]: row for row in reports.read(folder.path).rows("trials")}
    assert len(rows) == 6
    for trial, curve in expected_curves(folder).items():
        events = EventAccumulator(str(folder.path / "tensorboard" / f"trial-{trial:05d}"))
        events.Reload()
        logged = [(point.step, point.value) for point in events.Scalars("validation_accuracy")]
        assert logged == [(epoch, pytest.approx(value)) for epoch, value in curve]
        hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        assert b"optimizer.lr" in hparams
        if rows[trial]["status"] == "completed":
            assert events.Scalars("objective")[0].value == pytest.approx(rows[trial]["objective"])


@pytest.fixture
def mlflow_store(tmp_path, monkeypatch) -> str:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@needs_mlflow
def test_mlflow_holds_every_epoch_once(tmp_path, space, mlflow_store):
    import mlflow

    settings = settings_for(space, trials=6)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "mlflow", crash_after=9) == []
    client = mlflow.MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("winnow/it's mine")
    assert experiment is not None
    before = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert start(folder, space, settings, "mlflow") == []
    runs = {_number(run.info.run_name): run for run in client.search_runs([experiment.experiment_id])}
    assert before <= {run.info.run_id for run in runs.values()}, "a resume goes on with the runs that are there"
    rows = {row["trial"]: row for row in reports.read(folder.path).rows("trials")}
    assert runs.keys() == rows.keys()
    endings = {"completed": "FINISHED", "stopped": "KILLED"}
    for trial, curve in expected_curves(folder).items():
        run = runs[trial]
        logged = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "validation_accuracy")]
        assert sorted(logged) == [(epoch, pytest.approx(value)) for epoch, value in curve]
        assert float(run.data.params["optimizer.lr"]) == rows[trial]["optimizer.lr"]
        assert ("optimizer.momentum" in run.data.params) == (rows[trial]["optimizer.name"] == "sgd")
        assert run.info.status == endings[rows[trial]["status"]]


@needs_mlflow
def test_a_tracker_that_fails_does_not_end_the_search(tmp_path, space, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    settings = settings_for(space, trials=3)
    folder = new_run(tmp_path, space, settings)
    monkeypatch.setattr(trackers.MLflow, "epoch", _disk_full)
    said = start(folder, space, settings, "mlflow")
    assert len(said) == 1
    assert said[0] == "--log mlflow: cannot write (no space left); Winnow continues without it"
    assert len(reports.read(folder.path).rows("trials")) == 3


class Slow:
    """A tracker that notes what is written to it, each epoch only after a wait."""

    errors = (OSError,)

    def __init__(self, wait: Callable[[], object]) -> None:
        self.wait = wait
        self.epochs: list[tuple[str, int]] = []
        self.is_closed = self.is_abandoned = False

    def start(self, name: str, params: Record) -> None:
        """Nothing to do."""

    def epoch(self, name: str, record: Record) -> None:
        self.wait()
        self.epochs.append((name, record["epoch"]))

    def end(self, name: str, status: str, results: dict[str, float]) -> None:
        """Nothing to do."""

    def close(self) -> None:
        self.is_closed = True

    def abandon(self) -> None:
        self.is_abandoned = True


def test_a_tracker_that_does_not_answer_delays_neither_the_search_nor_its_end(tmp_path, space, monkeypatch):
    """As a server that takes packets and sends none. At the second start, it does not even let its tracker catch up."""
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    settings = settings_for(space, trials=3)
    folder = new_run(tmp_path, space, settings)
    answer = threading.Event()
    made: list[Slow] = []
    for name, wait in (("mlflow", answer.wait), ("wandb", lambda: None)):
        monkeypatch.setitem(
            trackers.TRACKERS, name, lambda folder, study, wait=wait: made.append(Slow(wait)) or made[-1]
        )
    for crash_after in (4, None):
        said: list[str] = []
        with trackers.following(["mlflow", "wandb"], folder, space, said.append) as listener:
            run_to_the_end(Ledger(folder, space, settings, SHAPE, listener), crash_after)
        assert said[-1] == "--log mlflow: no answer for 0 s; Winnow ends without it, and the next start catches up"
        assert set(said[:-1]) <= {"--log mlflow: still writing"}
        silent, other = made[-2:]
        assert silent.epochs == []
        assert silent.is_abandoned
        assert other.is_closed
        assert not other.is_abandoned
    expected = [(f"trial-{trial:05d}", epoch) for trial, curve in expected_curves(folder).items() for epoch, _ in curve]
    assert sorted(other.epochs) == sorted(expected)
    waiting = [thread for thread in threading.enumerate() if thread.name == "tracker mlflow"]
    assert all(thread.daemon for thread in waiting)
    answer.set()  # the server answers again, when trackers of the retraining may already be writing
    for thread in waiting:
        thread.join(10)
        assert not thread.is_alive()
    for silent in made[::2]:
        assert len(silent.epochs) == 1
        assert not silent.is_closed


def test_a_search_that_is_stopped_at_once_waits_for_no_tracker(tmp_path, monkeypatch, capsys):
    """As after a second Ctrl-C, also if the tracker gets on, only slowly."""

    @contextmanager
    def workers(*args: Any, **more: Any) -> Iterator[Any]:
        yield None, ResourcePlan("cpu", 1, 1.0, 0.0, threads=1, explanation=""), [None]

    def stopped(ledger: Ledger, *rest: Any) -> tune.Outcome:
        run_to_the_end(ledger)
        return tune.Outcome(interrupted=True, out_of_time=False, bug=None, wall_seconds=1.0, at_once=True)

    slow = Slow(lambda: time.sleep(0.2))
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda folder, study: slow)
    monkeypatch.setattr(trackers, "require", lambda *names: None)
    monkeypatch.setattr(Execution, "workers", workers)
    monkeypatch.setattr(tune, "run_search", stopped)
    with pytest.raises(SystemExit) as end:
        main(["search", "digits", "--trials", "8", "--log", "mlflow", "--runs-dir", str(tmp_path), "--quiet"])
    assert end.value.code == 130
    shown = capsys.readouterr()
    assert shown.out.count("--log mlflow") == 1
    assert "--log mlflow: it is not waited for; Winnow ends without it, and the next start catches up" in shown.out
    assert slow.is_abandoned
    assert not slow.is_closed


def test_catching_up_reads_the_epochs_once(tmp_path, space, monkeypatch):
    """Not once per trial: a search may have ten thousand trials."""

    class Counted(list[Record]):
        num_read = 0

        def __iter__(self) -> Iterator[Record]:
            Counted.num_read += 1
            return super().__iter__()

    settings = settings_for(space, trials=6)
    folder = new_run(tmp_path, space, settings)
    run_to_the_end(Ledger(folder, space, settings, SHAPE))
    records = read_records(folder.path)
    counted = replace(records, epoch_lines=Counted(records.epoch_lines))
    monkeypatch.setattr("winnow.reports.reading.run.read_records", lambda path: counted)
    slow = Slow(lambda: None)
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda folder, study: slow)
    with trackers.following(["mlflow"], folder, space, pytest.fail):
        num_read = Counted.num_read
    assert len(slow.epochs) == len(records.epoch_lines) > 6
    assert num_read <= 2  # here, and for the report


def test_a_tracker_that_is_slow_is_waited_for(tmp_path, space, monkeypatch):
    monkeypatch.setattr(trackers, "PATIENCE", 0.3)
    is_over = threading.Event()
    slow = Slow(lambda: is_over.wait() and time.sleep(0.1))
    monkeypatch.setitem(trackers.TRACKERS, "mlflow", lambda folder, study: slow)
    settings = settings_for(space, trials=3)
    folder = new_run(tmp_path, space, settings)
    said: list[str] = []
    with trackers.following(["mlflow"], folder, space, said.append) as listener:
        run_to_the_end(Ledger(folder, space, settings, SHAPE, listener))
        is_over.set()
    assert slow.is_closed
    assert len(slow.epochs) > 5
    assert set(said) == {"--log mlflow: still writing"}


def test_what_a_tracker_says_holds_no_secret_and_commands_no_terminal(tmp_path, space, monkeypatch):
    class Refusing:
        errors = (OSError,)

        def __init__(self, folder: RunFolder, study: Any) -> None:
            pass

        abandon = close = lambda self: None

        def start(self, name: str, params: Any) -> None:
            raise OSError(
                "\x1b[31mrequest to http://anna:hunter2@host:5000/api/2.0/runs?api_key=s3cret failed (https://t0ken@host)"
            )

    monkeypatch.setitem(trackers.TRACKERS, "mlflow", Refusing)
    settings = settings_for(space, trials=1)
    (said,) = start(new_run(tmp_path, space, settings), space, settings, "mlflow")
    assert "http://***@host:5000/api/2.0/runs?api_key=*** failed (https://***@host)" in said
    assert "\\x1b[31mrequest" in said


def retrained(folder: RunFolder, trial: int, seed: int, accuracy: float | None) -> Event:
    """What retraining writes and tells of one training of two epochs."""
    config = next(json.loads(row["config"]) for row in reports.read(folder.path).rows("trials"))
    about = {"phase": "retrain", "trial": trial, "seed": seed, "validation_accuracy": None, "time": 1.8e9}
    curve = [{**about, "epoch": epoch, "train_loss": 1 / epoch} for epoch in (1, 2)]
    status = "diverged" if accuracy is None else "completed"
    result = {"rank": None if trial < 0 else 1, "trial": trial, "seed": seed, "baseline": trial < 0, "config": config}
    result |= {"status": status} | ({} if accuracy is None else figures_of_test(accuracy))
    for path, lines in ((folder.epochs, curve), (folder.retrained, [result])):
        file = JsonLines(path)
        for line in lines:
            file.append(line)
        file.close()
    return Event("retrained", trial, config, {"result": result, "curve": curve}, status)


def figures_of_test(accuracy: float) -> Record:
    """The figures on the test images; an own metric was not defined."""
    return {"test_accuracy": accuracy, "test_loss": 0.1, "test_auroc": accuracy / 2, "test_own_metric": None}


def retrain_in_two_starts(folder: RunFolder, space: Space, name: str) -> None:
    """Two retrainings, and after a kill a third one."""
    for events in ([(1, 7, 0.9), (-1, 7, 0.8)], [(1, 8, None)]):
        with trackers.following([name], folder, space, pytest.fail) as listener:
            for trial, seed, accuracy in events:
                listener(retrained(folder, trial, seed, accuracy))


@needs_tensorboard
def test_tensorboard_holds_every_retraining_once(tmp_path, space):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = settings_for(space, trials=2)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "tensorboard") == []
    retrain_in_two_starts(folder, space, "tensorboard")
    found = {path.name for path in (folder.path / "tensorboard").iterdir()}
    assert found == {*("trial-00000", "trial-00001", "retrain-00001-s7", "retrain-00001-s8", "retrain-baseline-s7")}
    for name, accuracy in (("retrain-00001-s7", 0.9), ("retrain-00001-s8", None), ("retrain-baseline-s7", 0.8)):
        events = EventAccumulator(str(folder.path / "tensorboard" / name))
        events.Reload()
        assert [(point.step, point.value) for point in events.Scalars("train_loss")] == [(1, 1.0), (2, 0.5)]
        assert ("test_accuracy" in events.Tags()["scalars"]) == (accuracy is not None)
        if accuracy is not None:
            for figure, value in (("test_accuracy", accuracy), ("test_loss", 0.1), ("test_auroc", accuracy / 2)):
                assert [point.value for point in events.Scalars(figure)] == [pytest.approx(value)]
            assert "test_own_metric" not in events.Tags()["scalars"]


@needs_mlflow
def test_mlflow_holds_every_retraining_once(tmp_path, space, mlflow_store):
    import mlflow

    settings = settings_for(space, trials=2)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "mlflow") == []
    retrain_in_two_starts(folder, space, "mlflow")
    client = mlflow.MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("winnow/it's mine")
    assert experiment is not None
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert len(client.search_runs([experiment.experiment_id])) == len(runs) == 5
    endings = {"retrain-00001-s7": "FINISHED", "retrain-00001-s8": "FAILED", "retrain-baseline-s7": "FINISHED"}
    for name, ending in endings.items():
        assert runs[name].info.status == ending
        logged = client.get_metric_history(runs[name].info.run_id, "train_loss")
        assert sorted((m.step, m.value) for m in logged) == [(1, 1.0), (2, 0.5)]
    metrics = runs["retrain-baseline-s7"].data.metrics
    logged = {key: value for key, value in metrics.items() if key.startswith("test_")}
    assert logged == {"test_accuracy": 0.8, "test_loss": 0.1, "test_auroc": 0.4}


def _number(name: str) -> int:
    return int(name.removeprefix("trial-"))


def _disk_full(*_: object) -> None:
    raise OSError("no space left")


def test_a_bug_in_a_tracker_is_not_lost_in_its_thread(tmp_path, space, monkeypatch):
    class Broken(trackers.TensorBoard):
        def __init__(self) -> None:
            self.errors = (OSError,)

        def start(self, name: str, params: Record) -> None:
            raise ZeroDivisionError

        def close(self) -> None:
            """Nothing was opened."""

    monkeypatch.setitem(trackers.TRACKERS, "broken", lambda folder, study: Broken())
    settings = settings_for(space, trials=1)
    with pytest.raises(ZeroDivisionError):
        start(new_run(tmp_path, space, settings), space, settings, "broken")


def test_figures_leave_out_what_is_not_finite():
    assert figures({"epoch": 1, "train_loss": None, "lr": 0.1, "rung": 0}) == {"lr": 0.1}
    assert not math.isnan(figures({"train_loss": 1})["train_loss"])


def test_a_missing_package_is_named_before_anything_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "tensorboard", None)
    with pytest.raises(SystemExit) as end:
        main(["search", "digits", "--log", "tensorboard", "--runs-dir", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert "pip install 'winnow-search[tensorboard]'" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    with pytest.raises(InputError, match="unknown tracker 'mlfow'; did you mean mlflow"):
        trackers.check_installed(["mlfow"])


needs_wandb = pytest.mark.skipif(not importlib.util.find_spec("wandb"), reason="wandb is not installed")


@needs_wandb
def test_wandb_holds_every_epoch_once_offline(tmp_path, space, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = settings_for(space, trials=3)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "wandb", crash_after=4) == []
    assert start(folder, space, settings, "wandb") == []
    rows = {f"trial-{row['trial']:05d}": row for row in reports.read(folder.path).rows("trials")}
    found = offline_runs(folder)
    assert found.keys() == rows.keys()
    for trial, curve in expected_curves(folder).items():
        logged = found[f"trial-{trial:05d}"]
        values = [(step, each["validation_accuracy"]) for step, each in logged.history]
        assert values == [(epoch, pytest.approx(value)) for epoch, value in curve]
        assert logged.config["optimizer.lr"] == rows[f"trial-{trial:05d}"]["optimizer.lr"]


@needs_wandb
def test_wandb_holds_every_retraining_once_offline(tmp_path, space, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = settings_for(space, trials=2)
    folder = new_run(tmp_path, space, settings)
    assert start(folder, space, settings, "wandb") == []
    retrain_in_two_starts(folder, space, "wandb")
    found = offline_runs(folder)
    trials = ("trial-00000", "trial-00001")
    assert found.keys() == {*trials, "retrain-00001-s7", "retrain-00001-s8", "retrain-baseline-s7"}
    for name, accuracy in (("retrain-00001-s7", 0.9), ("retrain-00001-s8", None), ("retrain-baseline-s7", 0.8)):
        logged = found[name]
        assert [(step, each["train_loss"]) for step, each in logged.history] == [(1, 1.0), (2, 0.5)]
        assert logged.summary.get("test_accuracy") == accuracy
        assert logged.summary.get("test_auroc") == (None if accuracy is None else accuracy / 2)
        assert logged.exit_code == (0 if accuracy is not None else 1)
        assert logged.summary["status"] == ("completed" if accuracy is not None else "diverged")


@needs_wandb
def test_wandb_without_a_key_says_what_to_do(tmp_path, space, monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr("wandb.api", type("Api", (), {"api_key": None}))
    with pytest.raises(InputError, match="WANDB_MODE=offline"):
        start(new_run(tmp_path, space, settings_for(space, trials=1)), space, settings_for(space, trials=1), "wandb")


STOPPED = """
import signal, sys, time
from pathlib import Path
from winnow.search.resources.child_processes import child_processes
from winnow.search.storage.run_folder import RunFolder, space_of
from winnow.search.study.trials import Event
from winnow.search.trackers import following as trackers

trackers.PATIENCE = 2.0
folder = RunFolder(Path(sys.argv[1]))
space = space_of(folder)
config = space.example().model_dump(mode="json")
with trackers.following(["wandb"], folder, space, print) as listener:
    listener(Event("started", 0, config))
    while not list(folder.path.glob("wandb/offline-run-*/*.wandb")):
        time.sleep(0.1)
    process = child_processes(["wandb-core"])[0]
    Path(sys.argv[2]).write_text(str(process.pid))
    process.send_signal(signal.SIGSTOP)
    listener(Event("ended", 0, config, {}, "completed"))
print("over", flush=True)
"""


@needs_wandb
def test_wandb_that_does_not_answer_does_not_hold_the_end_of_the_process(tmp_path, space):
    """Its own process is stopped. At the end of a process, W&B waits for it without a limit."""
    folder = new_run(tmp_path, space, settings_for(space, trials=1))
    noted = tmp_path / "process"
    environment = {**os.environ, "WANDB_MODE": "offline"}
    environment.pop("WANDB_SERVICE", None)  # W&B's process of earlier tests
    command = [sys.executable, "-c", STOPPED, str(folder.path), str(noted)]
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    finally:
        if noted.exists():
            with suppress(ProcessLookupError):
                os.kill(int(noted.read_text()), signal.SIGKILL)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-2:] == [
        "--log wandb: no answer for 2 s; Winnow ends without it, and the next start catches up",
        "over",
    ]
    assert "Traceback" not in ended.stderr
