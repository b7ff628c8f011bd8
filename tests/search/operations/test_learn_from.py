"""`winnow search --learn-from` as far as the first worker, without Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.make_run import make_run
from winnow.search.cli.main import main
from winnow.search.operations import searching
from winnow.search.operations.execution import Execution
from winnow.search.resources.plan import ResourcePlan
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.ledger import Ledger

PLAN = ResourcePlan("cpu", concurrent=1, cpus_per_trial=1, gpus_per_trial=0, threads=1, explanation="")


class Started(Exception):
    """The search has begun."""


@pytest.fixture
def no_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Ends every search when its first worker would start; in a folder with two runs."""

    @contextmanager
    def workers(*args: Any, **more: Any) -> Iterator[Any]:
        yield None, PLAN, [None]

    def run(folder: RunFolder, space: Any, settings: Any, data: Any, image_shape: Any, *rest: Any) -> None:
        ledger = Ledger(folder, space, settings, image_shape)
        ledger.ask()
        ledger.close()
        raise Started

    monkeypatch.setattr(Execution, "workers", workers)
    monkeypatch.setattr(searching, "_run", run)
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b")):
        make_run(tmp_path / "runs" / name, stage="searched", seed=seed)
    return tmp_path


def test_the_command_copies_what_it_learns_from(no_workers, capsys):
    with pytest.raises(Started):
        main(["search", "digits", "--name", "new", "--learn-from", "a", "--learn-from", "runs/b"])
    folder = RunFolder(no_workers / "runs" / "new")
    study = folder.read_study()
    assert study["settings"]["learn_from"] == ["a", "runs/b"]
    assert [each["run"] for each in study["earlier_runs"]] == ["a", "b"]
    assert [line["run"] for line in read_json_lines(folder.earlier_runs)] == ["a", "b"]
    shown = capsys.readouterr()
    assert "trials of a, " in shown.out + shown.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--learn-from", "nowhere"], "--learn-from nowhere: no run here"),
        (["--learn-from", "a", "--sampler", "grid"], "grid"),
    ],
)
def test_what_cannot_teach_is_refused_without_a_run(no_workers, capsys, words, expected):
    with pytest.raises(SystemExit) as ended:
        main(["search", "digits", "--name", "new", *words])
    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
    assert not (no_workers / "runs" / "new").exists()
