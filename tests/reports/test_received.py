"""A run of somebody else: whatever its files hold, a command refuses it in words, and reads nothing outside of the folder."""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from tests.helpers.make_run import make_run
from winnow import reports
from winnow.reports.reading import archives
from winnow.reports.reading.predictions import load_predictions, validation_files
from winnow.reports.tables.validation_names import write_validation_names
from winnow.reports.text.compare import show_comparison
from winnow.reports.text.mistakes import show_mistakes
from winnow.reports.text.one_trial import show_trial
from winnow.reports.text.terminal import show as show_run
from winnow.search.cli.main import main
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.record import open_study
from winnow.spaces.errors import InputError


@pytest.mark.parametrize("trial", [[], ["--trial", "17"]], ids=["run", "trial"])
def test_escape_sequences_do_not_reach_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], trial: list[str]
) -> None:
    """A console of rich too, as Python code passes it."""
    monkeypatch.setenv("COLUMNS", "200")
    run = make_run(tmp_path / "run", stage="searched")
    for file, before, after in (
        ("study.journal", "was not replaced", "was not\\u001b[2J replaced"),
        ("study.yaml", "name: run", 'name: "a\\e[2Jrun"'),
    ):
        text = (run / file).read_text()
        assert before in text
        (run / file).write_text(text.replace(before, after))
    with pytest.raises(SystemExit) as ended:
        main(["show", str(run), *trial])
    assert ended.value.code == 0
    own = Console(file=io.StringIO(), width=200)
    show_run(reports.read(run), own)
    show_trial(reports.read(run), own, 17)
    assert isinstance(own.file, io.StringIO)
    for text in (capsys.readouterr().out, own.file.getvalue()):
        assert "\x1b" not in text
        assert "a\u241b[2Jrun" in text
        assert "was not\u241b[2J replaced" in text


def test_comparisons_and_mistakes_do_not_control_a_console_of_rich(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    file = run / "study.yaml"
    file.write_text(file.read_text().replace("name: run", 'name: "a\\e[2Jrun"'))
    read, own = reports.read(run), Console(file=io.StringIO(), width=200)
    assert show_comparison([read, read], own)
    show_mistakes(read, own, top=3)
    assert isinstance(own.file, io.StringIO)
    text = " ".join(own.file.getvalue().split())
    assert "\x1b" not in text
    assert "winner of a\u241b[2Jrun gets wrong" in text
    assert "a\u241b[2Jrun - a\u241b[2Jrun: " in text


DAMAGED = {
    "entry": (
        "study.journal",
        lambda line: '{"op_code": 4}',
        r"study\.journal:5: damaged: not an entry that Optuna writes",
    ),
    "operation": ("study.journal", lambda line: '{"op_code": [4]}', r"study\.journal:5: damaged: not an entry"),
    "attributes": ("study.journal", lambda line: with_attrs(line, 7), "its attributes must be a mapping, but are 7"),
    "status": (
        "study.journal",
        lambda line: with_attrs(line, {"status": "odd"}),
        "trial 3: unknown status 'odd'; known",
    ),
    "config": ("study.journal", lambda line: with_attrs(line, {"config": 7}), "its config must be a mapping, but is 7"),
    "time": ("study.journal", lambda line: with_attrs(line, {"started": "now"}), "must be numbers, but one is 'now'"),
    "retraining": (
        "retrain.jsonl",
        lambda line: json.dumps(json.loads(line) | {"status": "odd"}),
        r"retrain\.jsonl: damaged: unknown status 'odd'",
    ),
}
"""The file, how its fifth line is changed, and what is said. The fifth entry of the journal is the fourth trial."""


def with_attrs(line: str, attrs: Any) -> str:
    return json.dumps(json.loads(line) | {"user_attrs": attrs})


@pytest.mark.parametrize("case", DAMAGED)
@pytest.mark.parametrize("command", ["show", "report"])
def test_damaged_records_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, case: str
) -> None:
    run = make_run(tmp_path / "run")
    file, change, message = DAMAGED[case]
    lines = (run / file).read_text().splitlines()
    lines[4] = change(lines[4])
    (run / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(SystemExit) as ended:
        main([command, str(run)])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error


def test_lines_whose_keys_have_another_type_are_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with (run / "retrain.jsonl").open("a") as file:
        file.write(json.dumps({"trial": "x", "seed": 1, "baseline": False, "status": "completed"}) + "\n")
        file.write(json.dumps({"trial": 1, "seed": 1, "status": "completed"}) + "\n")
        file.write(json.dumps({"rank": [1], "trial": 1, "seed": 1, "baseline": False, "status": "completed"}) + "\n")
    read = reports.read(run)
    assert len(read.retrain_rows()) == 12
    assert read.notes == ("retrain.jsonl: 3 damaged lines were left out (line 13, 14, 15)",)


def run_command(command: str, run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main([command, str(run)])
    told = capsys.readouterr()
    assert ended.value.code == 0, told.err
    return " ".join(told.out.split())


@pytest.mark.parametrize("time", [math.nan, math.inf, -1.0, 1e12, 10**30, 10**400])
def test_times_that_no_clock_gives_are_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str], time: float) -> None:
    run = make_run(tmp_path / "run")
    lines = [json.loads(line) for line in (run / "retrain.jsonl").read_text().splitlines()]
    earlier = [lines[2] | {"time": time}, lines[1] | {"time": 1_700_000_000}]
    epochs = (run / "epochs.jsonl").read_text().splitlines()
    epochs[0] = json.dumps(json.loads(epochs[0]) | {"time": float(min(time, 1e300))})
    for name, written in (
        ("retrain.jsonl", [lines[0] | {"time": time}, *lines[1:]]),
        ("retrain.earlier.jsonl", earlier),
    ):
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in written))
    (run / "epochs.jsonl").write_text("\n".join(epochs) + "\n")
    assert "Besides the 11 trainings shown here, 2 earlier trainings of other" in run_command("show", run, capsys)
    run_command("report", run, capsys)
    read = reports.read(run)
    assert read.study["earlier_tests"] == {"trainings": 2, "first": "2023-11-14T22:13:20+00:00"}
    assert [row["time"] is None for row in read.retrain_rows()] == [True] + [False] * 11
    assert read.epochs["time"].null_count == 1


def test_earlier_tests_of_which_no_time_is_known_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path / "run")
    line = json.loads((run / "retrain.jsonl").read_text().splitlines()[0])
    (run / "retrain.earlier.jsonl").write_text(json.dumps(line | {"time": math.nan}) + "\n")
    assert "1 earlier training of other configs" in run_command("show", run, capsys)
    run_command("report", run, capsys)
    assert reports.read(run).study["earlier_tests"] == {"trainings": 1, "first": None}


def test_what_study_yaml_says_of_earlier_tests_does_not_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(tmp_path / "run")
    with (run / "study.yaml").open("a") as file:
        file.write("earlier_tests: many\n")
    assert "earlier training" not in run_command("show", run, capsys)
    run_command("report", run, capsys)
    assert "earlier_tests" not in reports.read(run / "report").study


def bomb(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("true.npy", "w") as member:
        for _ in range(1100):
            member.write(bytes(10**6))


@pytest.mark.parametrize(
    ("name", "make", "problem"),
    [
        ("/dev/zero", None, "records name '/dev/zero', which is not the path of a file in this folder"),
        ("../p.npz", None, r"records name '\.\./p\.npz', which is not the path of a file in this folder"),
        (7, None, "records name 7, which is not the path of a file in this folder"),
        ("pipe.npz", os.mkfifo, "pipe.npz: not a file"),
        ("zero.npz", lambda file: file.symlink_to("/dev/zero"), "zero.npz: not a file"),
        ("bomb.npz", bomb, r"bomb.npz: unpacks to 1\.1 GB from .* MB, which real arrays do not"),
    ],
)
def test_hostile_predictions_are_refused(
    tmp_path: Path, name: Any, make: Callable[[Path], Any] | None, problem: str
) -> None:
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(InputError, match=problem):
        load_predictions(tmp_path, name)


def huge_header() -> bytes:
    """An array of 8 PB that holds nothing."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    return header.getvalue()


def predictions(**changes: np.ndarray | None) -> dict[str, np.ndarray]:
    """The arrays of a file of 1000 images and 10 classes, with changes; those that are None are left out."""
    arrays: dict[str, np.ndarray | None] = {
        "index": np.arange(1000),
        "true": np.arange(1000) % 10,
        "predicted": np.arange(1000) % 10,
        "confidence": np.full(1000, 0.9, np.float32),
        "probability_true": np.full(1000, 0.9, np.float32),
        "probabilities": np.full((1000, 10), 0.1, np.float16),
        "name": np.array(["a.png"] * 1000),
        "gallery_index": np.array([3]),
        "gallery_images": np.zeros((1, 8, 8, 3), np.uint8),
    }
    return {name: array for name, array in (arrays | changes).items() if array is not None}


@pytest.mark.parametrize("name", ["index", "true", "predicted", "confidence", "probability_true", "gallery_index"])
def test_predictions_that_lack_an_array_are_none(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", **predictions(**{name: None}))
    assert load_predictions(tmp_path, "a.npz") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"true": np.zeros(1000)},
        {"true": np.zeros(999, int)},
        {"true": np.zeros((1000, 1), int)},
        {"predicted": np.full(1000, 10)},
        {"predicted": np.full(1000, -1)},
        {"predicted": np.full(1000, 10**15), "probabilities": None},
        {"confidence": np.array(["x"] * 1000)},
        {"index": np.zeros(1000, np.uint64)},
        {"probabilities": np.full((999, 10), 0.1)},
        {"gallery_images": np.zeros((1, 8, 8, 2), np.uint8)},
        {"gallery_images": np.zeros((1, 8, 8, 3), np.uint16)},
        {"gallery_images": np.zeros((2, 8, 8, 3), np.uint8)},
        {name: np.zeros(0, int) for name in ("index", "true", "predicted")}
        | {name: np.zeros(0) for name in ("confidence", "probability_true")}
        | {"probabilities": None, "name": None},
    ],
)
def test_arrays_that_do_not_belong_together_are_no_predictions(tmp_path: Path, changes: dict[str, Any]) -> None:
    np.savez(tmp_path / "a.npz", **predictions(**changes))
    assert load_predictions(tmp_path, "a.npz") is None


def test_a_report_leaves_out_predictions_that_lack_an_array(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    files = sorted((run / "predictions").glob("*.npz"))
    np.savez(files[0], **predictions(probability_true=None))
    np.savez(run / "predictions" / "validation-trial-00000.npz", **predictions(probabilities=None))
    with pytest.raises(SystemExit) as ended:
        main(["report", str(run)])
    assert ended.value.code == 0
    read = reports.read_tables(run)
    assert len(read.table("validation")) == 0
    trainings = read.table("predictions").select(["rank", "trial", "seed"]).to_pylist()
    assert len({tuple(training.values()) for training in trainings}) == len(files) - 1


def test_names_of_validation_images_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run")
    np.savez(run / "predictions" / "validation-trial-00000.npz", **predictions())
    file = run / "predictions" / "validation-names.parquet"

    def names() -> set[str | None]:
        table = reports.read(run).table("validation")
        assert len(table) == 1000
        return set(table.column("image_name").to_pylist())

    write_validation_names(run, {index: f"{index}.png" for index in range(1000)})
    assert names() == {f"{index}.png" for index in range(1000)}
    for columns in (
        {"index": [1]},
        {"index": ["1"], "image_name": ["a.png"]},
        {"index": [1], "image_name": [1]},
        {"index": [1], "image_name": ["a" * 5000]},
    ):
        pq.write_table(pa.table(columns), file)
        assert names() == {None}
    file.write_bytes(b"PAR1")
    assert names() == {None}
    same = {"index": pa.array([1] * 100_000), "image_name": pa.array(["a.png"] * 100_000)}
    pq.write_table(pa.table(same), file)
    monkeypatch.setattr(archives, "LARGE", 10**6)
    with pytest.raises(InputError, match=r"validation-names\.parquet: unpacks to 100,000 names, which are more than"):
        names()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *[
            (command, name)
            for command in ("report", "retrain")
            for name in ("study.journal", "epochs.jsonl", "retrain.jsonl")
        ],
        ("report", "predictions/validation-names.parquet"),
    ],
)
def test_a_pipe_in_place_of_a_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    """Opening it would wait for ever."""
    run = make_run(tmp_path / "run")
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    with pytest.raises(SystemExit) as ended:
        main([command, str(run)])
    assert ended.value.code == 2
    assert f"{name}: not a file" in capsys.readouterr().err


def test_a_pipe_in_place_of_a_table_is_refused(tmp_path: Path) -> None:
    report = reports.write(make_run(tmp_path / "run")).parent.rename(tmp_path / "report")
    (report / "predictions.parquet").unlink()
    os.mkfifo(report / "predictions.parquet")
    with pytest.raises(InputError, match=r"predictions\.parquet: not a file"):
        reports.read(report)


@pytest.mark.parametrize("case", [case for case, (file, *_) in DAMAGED.items() if file == "study.journal"])
def test_a_damaged_journal_is_not_given_to_optuna(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    """Commands that continue a run use Optuna's own reader."""
    run = make_run(tmp_path / "run")
    file, change, message = DAMAGED[case]
    lines = (run / file).read_text().splitlines()
    lines[4] = change(lines[4])
    (run / file).write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=message):
        open_study(RunFolder(run), "maximize")
    with pytest.raises(SystemExit) as ended:
        main(["retrain", str(run)])
    assert ended.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_damaged_predictions_are_none(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", **predictions())
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[60] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "header.npz", "w") as archive:
        archive.writestr("true.npy", huge_header())
    np.save(tmp_path / "array.npy", np.arange(3))
    for name in ("missing.npz", "flipped.npz", "header.npz", "array.npy"):
        assert load_predictions(tmp_path, name) is None
    assert load_predictions(tmp_path, "a.npz") is not None


def test_files_of_other_names_are_no_predictions(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    for name in ("validation-trial-00007.npz", "validation-trial-x.npz"):
        (tmp_path / "predictions" / name).touch()
    assert validation_files(tmp_path) == {7: tmp_path / "predictions" / "validation-trial-00007.npz"}
