"""The real command on real Ray: what a run leaves behind, and what it survives. Kills are real, of processes started here."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.reliability.processes import seconds_until_gone, workers
from tests.conftest import REPOSITORY
from winnow.search.cli.main import main
from winnow.search.ray_backend import session
from winnow.search.ray_backend.hangs import HangWatch
from winnow.search.ray_backend.session import put_once
from winnow.search.ray_backend.tune import LedgerScheduler
from winnow.search.storage.json_lines import read_json_lines

QUICK = """
data: digits
epochs: 4
batch_size: 128
model: {name: mlp, hidden: {choice: [[16], [32]]}, dropout: {float: [0.0, 0.3]}}
optimizer: {choice: {adam: {lr: {log: [0.001, 0.01]}}, sgd: {lr: {log: [0.01, 0.1]}}}}
search: {trials: 5}
retrain: {top: 2, seeds: 2}
baseline: {plain: {data: digits, epochs: 4, batch_size: 64, model: {name: mlp, hidden: [8]}, optimizer: {name: adam, lr: 0.001}}}
"""


@pytest.fixture
def space(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quick.yaml").write_text(QUICK)
    return tmp_path / "quick.yaml"


@pytest.fixture(scope="module")
def one_trial(shared_ray, tmp_path_factory) -> Path:
    """A finished search of one trial; tests copy it before they do damage."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "quick.yaml").write_text(QUICK)
    assert winnow("search", str(folder / "quick.yaml"), "--trials", "1", "--name", "r", "--runs-dir", str(folder)) == 0
    return folder / "r"


@pytest.fixture
def run(one_trial, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(one_trial, "runs/r"))


def winnow(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code or 0


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "winnow", *arguments]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{folder}", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Ray's reaper kills the process group of a driver that dies, which must not be that of the tests.
        start_new_session=True,
    )


def study_of(run: Path) -> optuna.Study:
    return optuna.load_study(
        study_name="winnow", storage=JournalStorage(JournalFileBackend(str(run / "study.journal")))
    )


def lines_of(run: Path) -> list[dict]:
    return list(read_json_lines(run / "epochs.jsonl"))


def wait_for_epochs(run: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while len(lines_of(run)) < count:
        assert time.monotonic() < deadline, f"only {len(lines_of(run))} epochs"
        time.sleep(0.02)


def born(pid: int) -> float:
    """Unix seconds."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def statuses(run: Path) -> Counter:
    return Counter(trial.user_attrs.get("status", "open") for trial in study_of(run).trials)


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_a_whole_run(shared_ray, space, capsys):
    assert winnow("run", "quick.yaml", "--name", "whole", "--seed", "1") == 0
    run = Path("runs/whole")
    printed = capsys.readouterr().out
    for words in ("search complete", "test accuracy", "baseline", "runs/whole/report", "next"):
        assert words in printed
    study = yaml.safe_load((run / "study.yaml").read_text())
    assert study["data"]["num_train"] + study["data"]["num_validation"] + study["data"]["num_test"] == 1797
    assert study["settings"]["rungs"] == [1, 3]
    trials = study_of(run).trials
    assert len(trials) == 5
    for trial in trials:
        assert trial.user_attrs["num_parameters"] > 0
        assert trial.user_attrs["config"]["epochs"] == 4
    # Each config and the baseline with each of the two seeds, on all that is not test; each looked at the test set once.
    retrained = list(read_json_lines(run / "retrain.jsonl"))
    completed = statuses(run)["completed"]
    assert len(retrained) == 2 * (min(2, completed) + 1)
    assert len({(line["trial"], line["seed"]) for line in retrained}) == len(retrained)
    assert {line["status"] for line in retrained} == {"completed"}
    assert all(0.1 < line["test_accuracy"] <= 1 for line in retrained)
    assert all(line["validation_accuracy"] is None for line in lines_of(run) if line["phase"] == "retrain")
    predictions = pq.read_table(run / "report" / "predictions.parquet")
    assert predictions.num_rows == len(retrained) * study["data"]["num_test"]
    assert not list((run / "checkpoints").glob("trial-*"))
    # What is done is not done again.
    before = (run / "retrain.jsonl").read_bytes()
    assert winnow("retrain", "whole") == 0
    assert (run / "retrain.jsonl").read_bytes() == before
    assert winnow("show", "whole") == 0


def test_images_are_in_a_ray_of_ours_once(shared_ray, monkeypatch):
    """Search, measuring and retraining ask for the same ones, so a node holds one copy of them."""
    monkeypatch.setattr(
        session._session, "sent", {}
    )  # other tests start and end a stand-in for Ray, and what is sent with it
    first, again, other = (put_once(shared_ray, key, [key]) for key in ("a", "a", "b"))
    assert first == again != other
    assert shared_ray.get([first, other]) == [["a"], ["b"]]


def test_ended_trials_are_not_looked_through_at_every_event():
    """Tune's own FIFO does so twice, and an event then costs more with every trial that has ended."""
    manager = SimpleNamespace(_live_actors_to_ray_actors_resources={})
    inner = SimpleNamespace(_pending_trials=set(), _trial_to_actor={}, _actor_manager=manager)
    controller = SimpleNamespace(get_trials=lambda: pytest.fail("looked through all trials"), _tune_controller=inner)
    stopping: Any = SimpleNamespace(hangs=HangWatch.__new__(HangWatch))
    stopping.hangs._starting = {}
    ledger: Any = None
    assert LedgerScheduler(ledger, stopping, ()).choose_trial_to_run(controller) is None


@pytest.mark.slow
def test_one_worker_repeats_itself(shared_ray, space):
    """Same seed, one trial at a time: the same suggestions, the same curves, to the last bit."""
    outcomes = []
    for name in ("a", "b"):
        assert (
            winnow("search", "quick.yaml", "--name", name, "--seed", "7", "--concurrent", "1", "--cpus-per-trial", "1")
            == 0
        )
        keys = ("trial", "epoch", "train_loss", "validation_loss", "validation_accuracy", "decision")
        outcomes.append([{key: line[key] for key in keys} for line in lines_of(Path("runs", name))])
    assert outcomes[0] == outcomes[1]


def test_divergence_is_stopped_and_told(shared_ray, space):
    text = QUICK.replace("{log: [0.01, 0.1]}", "{log: [1.0e+25, 1.0e+30]}").replace(
        "adam: {lr: {log: [0.001, 0.01]}}, ", ""
    )
    space.write_text(text)
    assert winnow("search", "quick.yaml", "--trials", "3") == 0
    run = Path("runs/quick")
    assert statuses(run) == {"diverged": 3}
    assert {trial.state.name for trial in study_of(run).trials} == {"FAIL"}
    assert "NaN" not in (run / "epochs.jsonl").read_text()
    with pytest.raises(SystemExit) as end:
        main(["retrain", "quick"])
    assert end.value.code == 2


@pytest.mark.slow
def test_a_bug_in_the_users_model_ends_the_search(tmp_path):
    """Raised for whole batches only, so that the check before the launch, which tries a few images, cannot see it."""
    (tmp_path / "mynets.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, width, classes):\n        super().__init__()\n        self.a = nn.Linear(64, width)\n        self.b = nn.Linear(width, classes)\n\n"
        "    def forward(self, x):\n        if len(x) > 16:\n            raise KeyError('my own bug')\n        return self.b(self.a(x.flatten(1)))\n\n\n"
        "def build(image_shape, num_classes, width):\n    return Net(width, num_classes)\n"
    )
    model = 'model: {name: "mynets:build", width: {int: [4, 64]}}'
    (tmp_path / "mine.yaml").write_text(re.sub(r"model: .*\n", model + "\n", QUICK, count=1))
    process = start(tmp_path, "search", "mine.yaml", "--trials", "50", "--num-cpus", "2")
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 1, errors
    assert errors.count("KeyError: 'my own bug'") == 1
    assert "winnow resume" in errors
    assert 3 <= statuses(tmp_path / "runs" / "mine")["failed"] <= 5


# --- faults -------------------------------------------------------------------------------------------------------------


LONG = ("--set", "epochs=60", "--trials", "6", "--name", "r", "--num-cpus", "2", "--seed", "2")


def test_kill_9_loses_nothing(space):
    folder = space.parent
    run = folder / "runs" / "r"
    process = start(folder, "search", "quick.yaml", *LONG)
    wait_for_epochs(run, 20)
    process.kill()
    process.communicate()
    # Ray's own agents would stay for a minute (61 s measured); the watchdog ends them.
    assert seconds_until_gone(process.pid) < 15
    known = [(line["trial"], line["epoch"], line["validation_accuracy"]) for line in lines_of(run)]
    ended = {t.number: (t.user_attrs["status"], t.value) for t in study_of(run).trials if "status" in t.user_attrs}
    with (run / "epochs.jsonl").open("a") as lines:
        lines.write('{"phase": "search", "trial": 0, "ep')  # as a power cut leaves it
    with (run / "study.journal").open("a") as journal:
        journal.write('{"op_code": 8, "trial_i')
    moved = folder / "elsewhere"
    moved.mkdir()
    run.rename(moved / "r")
    resumed = start(folder, "resume", "elsewhere/r", "--num-cpus", "2")
    output, errors = resumed.communicate(timeout=200)
    assert resumed.returncode == 0, errors
    assert "search complete" in output
    run = moved / "r"
    lines = [(line["trial"], line["epoch"], line["validation_accuracy"]) for line in lines_of(run)]
    assert lines[: len(known)] == known
    assert max(Counter((trial, epoch) for trial, epoch, _ in lines).values()) == 1
    trials = study_of(run).trials
    assert len(trials) == 6
    assert all(trial.state.is_finished() for trial in trials)
    # What had ended, the incumbent among it, has the end and the value that it had.
    assert {number: (trials[number].user_attrs["status"], trials[number].value) for number in ended} == ended
    values = [trial.value for trial in trials if trial.value is not None]
    assert study_of(run).best_value == max(values)
    for trial in trials:
        epochs = [epoch for number, epoch, _ in lines if number == trial.number]
        assert sorted(trial.intermediate_values) == list(range(1, len(epochs) + 1)) == sorted(epochs)
    assert not list((run / "checkpoints").glob("trial-*"))


def test_ctrl_c_keeps_everything_and_says_how_to_go_on(space):
    folder = space.parent
    run = folder / "runs" / "r"
    process = start(folder, "search", "quick.yaml", *LONG)
    wait_for_epochs(run, 10)
    # Trials are in the processes that Ray had begun with, which had the time to import torch.
    training = workers(process.pid)
    assert training
    assert all(born(worker) < (run / "study.yaml").stat().st_mtime for worker in training)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "winnow resume runs/r" in errors
    assert "Traceback" not in errors
    assert (run / "report" / "trials.parquet").exists()
    open_trials = [trial for trial in study_of(run).trials if not trial.state.is_finished()]
    assert open_trials
    for trial in open_trials:  # the running epoch was ended and has its checkpoint
        assert not trial.intermediate_values or (run / "checkpoints" / f"trial-{trial.number:05d}.pt").exists()


@pytest.mark.slow
def test_a_full_disk_ends_in_order_and_can_be_mended(run, capsys):
    """A limit on the size of files stands in for the full disk: the write fails with an OSError just the same."""
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["settings"]["trials"] = 3
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((run / "study.journal").stat().st_size + 2000, hard))
    try:
        code = winnow("resume", "r")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 2
    assert "cannot write or read (File too large)" in capsys.readouterr().err
    assert winnow("resume", "r") == 0
    assert len(study_of(run).trials) == 3
    assert all(trial.state.is_finished() for trial in study_of(run).trials)


def test_a_damaged_journal_is_refused(run, capsys):
    with (run / "study.journal").open("a") as journal:
        journal.write("garbage\n")
    assert winnow("resume", "r") == 2
    message = capsys.readouterr().err
    assert "study.journal, line" in message
    assert "head -n" in message


@pytest.mark.parametrize("command", ["resume", "retrain"])
def test_other_data_is_refused(command, run, capsys):
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["data"]["fingerprint"] = "0" * 16
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    assert winnow(command, "r") == 2
    assert "not the one this run began with" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_worker_died_of_is_told(shared_ray, space, monkeypatch, capsys):
    """An error outside a trial's own training, as on a node that joined with a broken set-up."""

    def broken(config, data, job):
        raise ModuleNotFoundError("No module named 'mine'")

    monkeypatch.setattr("winnow.search.ray_backend.tune.run_trial", broken)
    assert winnow("search", "quick.yaml", "--trials", "1", "--name", "r") == 0
    said = "".join(capsys.readouterr())
    assert "its worker was lost (ModuleNotFoundError: No module named 'mine'); it continues" in said
    (trial,) = study_of(Path("runs/r")).trials
    assert trial.user_attrs["status"] == "lost"
    assert trial.user_attrs["error"].splitlines()[-1] == "ModuleNotFoundError: No module named 'mine'"


@pytest.mark.slow
def test_a_lost_worker_is_replaced(shared_ray, space):
    """A worker that is killed: its trial goes on from its checkpoint in a new one, and the search does not notice."""
    import threading

    run = Path("runs/r")
    killed = []

    def kill_one() -> None:
        wait_for_epochs(run, 5)
        killed.append(workers(os.getpid())[0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert winnow("search", "quick.yaml", "--set", "epochs=60", "--trials", "4", "--name", "r") == 0
    killer.join()
    assert killed
    lines = Counter((line["trial"], line["epoch"]) for line in lines_of(run))
    assert max(lines.values()) == 1
    assert set(statuses(run)) <= {"completed", "stopped"}
    assert [
        trial.user_attrs["worker_losses"] for trial in study_of(run).trials if "worker_losses" in trial.user_attrs
    ] == [1]
