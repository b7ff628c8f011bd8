"""What a command says while it runs and when it is cut short: the folder first, and always the way on."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.make_run import make_run
from tests.search.cli.test_cli import winnow  # noqa: F401
from winnow import reports, search
from winnow.reports.text import summary
from winnow.search.operations import retraining, searching
from winnow.search.operations.execution import Execution, interrupted
from winnow.search.ray_backend.shared_data import SharedData
from winnow.search.ray_backend.tune import Outcome
from winnow.search.resources.plan import ResourcePlan
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError

COMPLETE = Outcome(False, False, None, 2.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run as `winnow run` leaves it when the search is complete and retraining has not begun."""
    path = make_run(tmp_path / "runs" / "mine", stage="searched")
    file = path / "study.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"then_retrain": True}))
    return path


@pytest.mark.parametrize("name", [None, "mine"])
def test_the_first_line_is_the_folder_of_the_run(tmp_path, monkeypatch, winnow, name):  # noqa: F811
    def stop(*arguments: object) -> None:
        raise InputError("no images")

    monkeypatch.setattr(searching, "load_data", stop)
    (tmp_path / "runs" / "digits").mkdir(parents=True)
    done = winnow("run", "digits", *([] if name is None else ["--name", name]))
    expected = "run      runs/mine" if name else "run      runs/digits-2  (runs/digits exists already)"
    assert done.stdout.splitlines()[0] == expected


def test_an_interrupted_retraining_prints_the_way_on(run, monkeypatch, winnow):  # noqa: F811
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(retraining, "retrain", interrupt)
    done = winnow("retrain", "mine", "--top", "2")
    assert done.returncode == 130
    assert "Continue with: winnow retrain runs/mine --top 2" in done.stderr
    kept = winnow("retrain", "mine", "--keep-validation").stderr
    assert "Continue with: winnow retrain runs/mine --keep-validation\n" in kept
    assert '"resume": "winnow retrain runs/mine"' in winnow("retrain", "mine", "--json").stdout


def test_an_interruption_outside_of_the_trials_prints_the_way_on(run, monkeypatch, winnow):  # noqa: F811
    def interrupt(folder: RunFolder, *arguments: object) -> None:
        with interrupted(folder):
            raise KeyboardInterrupt

    monkeypatch.setattr(searching, "resume", interrupt)
    done = winnow("resume", "mine")
    way_on = "winnow: interrupted; nothing is lost; continue with: winnow resume runs/mine\n"
    assert (done.returncode, done.stderr.lstrip()) == (130, way_on)


def test_the_way_on_is_printed_also_if_no_report_can_be_written(run, monkeypatch, winnow):  # noqa: F811
    way_on = "cannot write or read (No space left on device); free some space, then: winnow retrain runs/mine"

    def refuse(text: str) -> Callable[..., None]:
        def raising(*arguments: object, **options: object) -> None:
            raise InputError(text)

        return raising

    monkeypatch.setattr(retraining, "retrain", refuse(way_on))
    monkeypatch.setattr(reports, "write", refuse("the report cannot be written"))
    done = winnow("retrain", "mine")
    assert (done.returncode, done.stderr) == (2, f"winnow: {way_on}\n")


@pytest.mark.parametrize("options", [[], ["--quiet"]])
def test_what_a_retraining_waits_for_is_printed_before_the_first_has_ended(run, monkeypatch, winnow, options):  # noqa: F811
    def run_tasks(*arguments: object, say: Callable[[str], None], **options: object) -> Iterator[Any]:
        say("waiting: Ray has 2 CPUs, 0 are free, and a training needs 1")
        yield from ()

    plan = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")
    monkeypatch.setattr(Execution, "workers", lambda *_, **__: nullcontext((None, plan, [SharedData(None)])))
    monkeypatch.setattr(retraining, "load_recorded", lambda *arguments: None)
    monkeypatch.setattr("winnow.search.winners.retraining.run_tasks", run_tasks)
    done = winnow("retrain", "mine", "--data-dir", "data", *options)
    assert "waiting: Ray has 2 CPUs, 0 are free, and a training needs 1\n" in done.stdout, done.stderr


@pytest.mark.parametrize(("command", "retrains"), [("resume", True), ("extend", False)])
def test_a_resumed_run_is_retrained(run, monkeypatch, winnow, command, retrains):  # noqa: F811
    calls: list[Any] = []
    monkeypatch.setattr(searching, "resume", lambda *arguments: COMPLETE)
    monkeypatch.setattr(retraining, "retrain", lambda folder, here, **options: calls.append(folder.name))
    done = winnow(command, "mine", *(["--trials", "3"] if command == "extend" else []))
    assert done.returncode == 0, done.stderr
    assert calls == (["mine"] if retrains else [])
    assert done.stdout.splitlines()[-1] == "next     winnow retrain runs/mine"  # nothing was retrained here


def test_a_resumed_run_is_retrained_from_python(run, monkeypatch):
    calls: list[Any] = []
    monkeypatch.setattr(searching, "resume", lambda *arguments: COMPLETE)
    monkeypatch.setattr(retraining, "retrain", lambda folder, here, **options: calls.append(folder.name))
    search.resume(run, quiet=True)
    assert calls == ["mine"]


def test_retrainings_that_all_fail_are_a_failure(tmp_path, monkeypatch, winnow):  # noqa: F811
    path = make_run(tmp_path / "runs" / "mine")
    lines = [json.loads(line) for line in (path / "retrain.jsonl").read_text().splitlines()]
    failed = {
        "status": "failed",
        "error": "ValueError: the shape does not fit",
        "test_accuracy": None,
        "predictions": None,
    }
    (path / "retrain.jsonl").write_text("".join(json.dumps(line | failed) + "\n" for line in lines))
    monkeypatch.setattr(retraining, "retrain", lambda folder, here, **options: 9)
    done = winnow("retrain", "mine")
    assert done.returncode == 1
    assert "no retraining was completed, so nothing was tested" in done.stderr
    assert done.stdout.splitlines()[-1] == "next     winnow retrain runs/mine"
    text = " ".join(summary.sentences(reports.read(path)))
    assert "All 9 retrainings of the winners failed, so there is no test accuracy." in text


def test_show_without_a_name_shows_the_newest(tmp_path, winnow):  # noqa: F811
    assert "no run under runs/ yet" in winnow("show").stderr
    for age, name in enumerate(["newest", "oldest"]):
        path = make_run(tmp_path / "runs" / name, stage="first_epoch")
        os.utime(path / "study.yaml", (1e9 - age, 1e9 - age))
    assert winnow("show").stdout.startswith("newest")
