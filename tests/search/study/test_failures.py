"""Classes of failure where they arise, in the worker: really out of memory, really unable to write. And the clock of a run."""

from __future__ import annotations

import resource
import sys
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ray import cloudpickle
from ray.exceptions import RayTaskError

from tests.helpers.ledgers import SHAPE, make_folder, outcome, run_to_the_end, study_of
from tests.helpers.tiny import tiny_config, tiny_data
from winnow.reports.statuses import FAILED_STATUSES
from winnow.reports.text.failure_classes import CLASSES, class_rows
from winnow.search.ray_backend import worker
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.search.ray_backend.worker_errors import had_not_begun, raised_by_worker
from winnow.search.settings import settings_for
from winnow.search.storage import clock
from winnow.search.study.failure_policy import Failures, headline
from winnow.search.study.ledger import Ledger
from winnow.search.study.record import ENDED_STATES
from winnow.search.study.trials import Assignment
from winnow.search.training import process_state
from winnow.search.training.errors import STORAGE_FAILED, DeviceLost, RankLost
from winnow.search.training.process_state import SpoiledProcess
from winnow.spaces import catalog

ADVICE = "\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1\nCompile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"


def job(folder: Path) -> Job:
    return Job(checkpoints=str(folder), device="cpu", threads=1, seed=0)


def assignment(**changes: object) -> Assignment:
    return Assignment(0, 1, tiny_config(**changes).model_dump(mode="json"))


def test_out_of_memory_is_its_own_class(tmp_path):
    """A layer of terabytes: torch's allocator really fails (with a plain RuntimeError on a CPU)."""
    huge = assignment(model={"name": "mlp", "hidden": [10**10]})
    (report,) = trial_reports(huge, tiny_data(), job(tmp_path))
    assert report["status"] == "out_of_memory", report
    assert "allocate memory" in report["error"]


@pytest.mark.parametrize(("gpus", "releases"), [(0.5, 1), (1.0, 0), (0.0, 0), (None, 0)])
@pytest.mark.parametrize("end", ["completed", "stopped", "failed"])
def test_memory_is_released_after_each_trial_on_a_shared_gpu(end, gpus, releases, tmp_path, monkeypatch):
    released = []
    monkeypatch.setattr(worker, "release_memory", lambda: released.append(1))
    if end == "failed":
        monkeypatch.setattr(torch.optim.Adam, "step", lambda self: {}["no such thing"])
    reports = trial_reports(assignment(epochs=2), tiny_data(), replace(job(tmp_path), gpus=gpus))
    next(reports)
    assert len(released) == (releases if end == "failed" else 0)
    reports.close() if end == "stopped" else list(reports)
    assert len(released) == releases


def test_nothing_is_released_on_a_device_that_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "release_memory", lambda: pytest.fail("CUDA would raise its error again"))
    monkeypatch.setattr(worker, "train_on", lambda *of, **more: lost())

    def lost():
        raise DeviceLost("illegal access")
        yield

    with pytest.raises(DeviceLost):
        list(trial_reports(assignment(), tiny_data(), replace(job(tmp_path), gpus=0.5)))


def test_a_bug_is_its_own_class(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: {}["no such thing"])
    (report,) = trial_reports(assignment(), tiny_data(), job(tmp_path))
    assert report["status"] == "failed"
    assert report["error"].endswith("KeyError: 'no such thing'\n")


def test_a_model_that_exits_is_a_bug_and_does_not_take_the_worker_along(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.optim.Adam, "step", lambda self: sys.exit("no licence"))
    (report,) = trial_reports(assignment(), tiny_data(), job(tmp_path))
    assert report["status"] == "failed"
    assert report["error"].endswith("SystemExit: no licence\n")


def test_a_checkpoint_that_cannot_be_written_ends_no_trial(tmp_path):
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    first = ledger.ask()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        (report,) = trial_reports(assignment(), tiny_data(), job(folder.checkpoints))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert report["status"] == STORAGE_FAILED
    with pytest.raises(OSError, match=r"File too large.*trial-00000\.pt"):
        ledger.record(first.number, report)
    assert (ledger.num_asked, ledger.num_ended) == (1, 0)
    assert not list(folder.checkpoints.iterdir())


def test_a_process_that_another_trial_spoiled_costs_a_trial_nothing(tmp_path):
    """With eight workers an innocent trial may meet four such processes in a row, and would end as lost."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=1)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    for _ in range(6):
        first = ledger.ask()
        assert ledger.lost(first.number, "SpoiledProcess: an earlier training ...", began=False)
    assert ledger.ask() == first
    assert "worker_losses" not in study_of(folder).trials[0].user_attrs


def test_a_spoiled_process_is_recognised_by_the_traceback_of_its_worker(tmp_path):
    for error, is_one in (
        (SpoiledProcess("an earlier training (signal handlers)"), True),
        (RankLost("SpoiledProcess"), False),
    ):
        text = "".join(traceback.format_exception(error))
        file = tmp_path / "error.pkl"
        file.write_bytes(cloudpickle.dumps(RayTaskError("train", text, error)))
        assert had_not_begun(raised_by_worker(str(file))) == is_one
    assert not had_not_begun("")


def test_every_class_has_a_status_and_words():
    assert set(FAILED_STATUSES) == ENDED_STATES.keys() - {"completed", "stopped", "infeasible"}
    assert set(FAILED_STATUSES) <= CLASSES.keys()
    trials = [
        {"status": "diverged", "worker_losses": 1, "micro_batches": 1},
        {"status": "completed", "worker_losses": 2, "micro_batches": 4},
        {"status": "lost", "worker_losses": 4, "micro_batches": 1},
    ]
    counts = {name: count for name, count, _, _ in class_rows(trials)}
    assert counts == {
        "diverged": 1,
        "out_of_memory": 0,
        "failed": 0,
        "lost": 1,
        "timed_out": 0,
        "recovered": 2,
        "micro-batches": 1,
    }


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    """Forward and back while a search runs, and back between two starts: same trials, times that never go back."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=6, seed=3)
    steady = make_folder(tmp_path / "steady", space, settings)
    run_to_the_end(Ledger(steady, space, settings, SHAPE))
    jumpy = make_folder(tmp_path / "jumpy", space, settings)
    jumps = iter([5e9, 1e9, 2e9, 1.0] * 1000)
    monkeypatch.setattr("time.time", lambda: next(jumps))
    monkeypatch.setattr(clock, "_OFFSET", clock._OFFSET + 7200)
    run_to_the_end(Ledger(jumpy, space, settings, SHAPE), crash_after=9)
    monkeypatch.setattr(clock, "_OFFSET", clock._OFFSET - 9000)  # the next start reads a clock that went back
    monkeypatch.setattr(clock, "_earliest", 0.0)
    ledger = Ledger(jumpy, space, settings, SHAPE)
    run_to_the_end(ledger)
    assert outcome(jumpy) == outcome(steady)
    from winnow import reports
    from winnow.search.storage.json_lines import read_json_lines

    times = [line["time"] for line in read_json_lines(jumpy.epochs)]
    assert times == sorted(times)
    trials = reports.read(jumpy.path).table("trials").to_pylist()
    assert all(trial["wall_seconds"] >= 0 for trial in trials)


def test_a_run_folder_stays_small(tmp_path):
    """docs/reliability.md states it: at most 6 kB a trial and 0.8 kB an epoch, checkpoints of ended trials gone."""
    space = catalog.load("digits", ["epochs=9"])
    settings = settings_for(space, trials=60)
    folder = make_folder(tmp_path, space, settings)
    ledger = Ledger(folder, space, settings, SHAPE)
    figures = {
        "train_loss": 0.123456789012,
        "train_accuracy": 0.912345678901,
        "lr": 0.00123456789,
        "wall_seconds": 1.23456,
    }
    figures |= {
        "images_per_second": 12345.678901,
        "node": "a-rather-long-host-name-0001",
        "device": "NVIDIA H100 80GB HBM3",
    }
    while (assigned := ledger.ask()) is not None:
        ledger.note_size(assigned.number, {"num_parameters": 123456, "multiply_adds": 1234567, "device": "cpu"})
        for epoch in range(1, 10):
            value = {
                "validation_accuracy": 0.9 + epoch / 1000,
                "validation_loss": 0.3,
                "diverged": False,
                "last": epoch == 9,
            }
            if not ledger.record(assigned.number, {"epoch": epoch, **figures, **value, "weights_epoch": epoch}):
                break
    num_epochs = len(folder.epochs.read_text().splitlines())
    size = sum(file.stat().st_size for file in folder.path.rglob("*") if file.is_file())
    print(size, num_epochs)
    assert size < 60 * 6_000 + num_epochs * 800


def test_the_last_line_of_cudas_advice_is_not_the_cause():
    """Three trials with three errors of CUDA are three causes, although their messages end alike."""
    failures = Failures()
    for text in ("device-side assert triggered", "an illegal memory access", "misaligned address"):
        try:
            raise torch.AcceleratorError(f"CUDA error: {text}{ADVICE}")
        except torch.AcceleratorError as error:
            failures.ended("".join(traceback.format_exception(error)))
    assert failures.bug is None
    assert headline("a\nb") == "a"
    assert headline(f'Traceback\n  File "x", line 1, in f\n    f()\nRuntimeError: CUDA error: x{ADVICE}').endswith(
        ": x"
    )


def test_a_cuda_error_that_sticks_ends_the_process(tmp_path, monkeypatch):
    def step(self):
        raise torch.AcceleratorError(f"CUDA error: an illegal memory access was encountered{ADVICE}")

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    monkeypatch.setattr(process_state, "_spoiled", [])
    with pytest.raises(DeviceLost, match=r"^AcceleratorError: CUDA error: an illegal memory access was encountered$"):
        list(trial_reports(assignment(), tiny_data(), job(tmp_path)))


def test_the_second_try_asks_for_no_more_than_the_first():
    from winnow.search.ray_backend.tune import Resources

    assert Resources(cpus=1, gpus=0.25).per_trial == {"cpu": 1, "gpu": 0.25}
