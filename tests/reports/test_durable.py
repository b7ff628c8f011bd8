"""What was published is whole after a power cut: the disk of the simulated disasters really takes back what was not synced."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.reliability.disasters.disk import FailingDisk
from benchmarks.reliability.disasters.faults import PowerCut
from tests.helpers.make_run import make_run
from winnow.reports import writing
from winnow.reports.durable import write_whole
from winnow.reports.reading import parquet_reader
from winnow.reports.tables.prediction_files import COLUMNS, write_predictions
from winnow.search.storage.json_lines import JsonLines
from winnow.search.storage.run_folder import RunFolder, create, write_text
from winnow.search.study.journal_file import open_study
from winnow.search.winners.exporting import _whole
from winnow.spaces.errors import InputError

ROWS = [dict(zip(COLUMNS, (f"{number}.png", 1, "cat", 0.5, None), strict=True)) for number in range(100)]


class WorstCut(random.Random):
    """Draws with which a power cut takes back all that was not synced."""

    def random(self) -> float:
        return 0.0

    def randint(self, a: int, b: int) -> int:
        return a


def export(folder: Path) -> None:
    with _whole(folder / "mine") as part:
        (part / "member-1").mkdir()
        for file in (part / "model.pt2", part / "member-1" / "weights.safetensors"):
            handle = os.open(file, os.O_WRONLY | os.O_CREAT)  # as libraries in C++ write
            os.write(handle, b"weights" * 100)
            os.close(handle)
        (part / "model.onnx.tmp").write_bytes(b"onnx")
        (part / "model.onnx.tmp").rename(part / "model.onnx")
        write_text(part / "member-1" / "config.yaml", "a: 1")
        write_text(part / "README.md", "A model card.")


def report(folder: Path) -> None:
    writing.write(folder / "run")


def lines(folder: Path) -> None:
    file = JsonLines(folder / "epochs.jsonl")
    file.append({"epoch": 1})
    file.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


PUBLISHERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "report": (report, "run/report/report.html"),
    "export": (export, "mine/model.pt2"),
    "lines": (lines, "epochs.jsonl"),
    "journal": (lambda folder: open_study(RunFolder(folder), "maximize"), "study.journal"),
    "text": (lambda folder: write_text(folder / "study.yaml", "a: 1\n"), "study.yaml"),
    **{
        ending: (lambda folder, ending=ending: write_predictions(ROWS, folder / f"answers{ending}"), f"answers{ending}")
        for ending in (".csv", ".json", ".parquet")
    },
}


@pytest.mark.parametrize("name", PUBLISHERS)
def test_a_power_cut_takes_nothing_back(tmp_path: Path, name: str) -> None:
    publish, file = PUBLISHERS[name]
    if name == "report":
        make_run(tmp_path / "run", "first_epoch")
    disk = FailingDisk(tmp_path, WorstCut())
    with disk.installed():
        publish(tmp_path)
    before = contents(tmp_path)
    assert before[file]
    disk.cut_power()
    assert contents(tmp_path) == before


@pytest.mark.parametrize("steps", range(6))
def test_a_power_cut_in_between_leaves_the_old_table_or_the_new_one(tmp_path: Path, steps: int) -> None:
    old, new = pa.table({"a": [1, 2, 3]}), pa.table({"a": [4, 5, 6, 7]})
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        file = folder / "trials.parquet"
        disk = FailingDisk(folder, random.Random(seed))
        with disk.installed():
            write_whole(file, lambda part: pq.write_table(old, part))
            disk.arm("power", steps)
            try:
                write_whole(file, lambda part: pq.write_table(new, part))
            except PowerCut:
                disk.cut_power()
        assert pq.read_table(file).equals(old) or pq.read_table(file).equals(new)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    def write(part: Path) -> None:
        part.write_text("half")
        raise OSError("no space left")

    (tmp_path / "a").write_text("old")
    with pytest.raises(OSError, match="no space left"):
        write_whole(tmp_path / "a", write)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a", "old")]


def test_a_file_of_the_run_that_cannot_be_read_ends_a_report_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> str:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(file))

    run = make_run(tmp_path / "run", "searched")
    monkeypatch.setattr(parquet_reader, "_digest", fail)
    with pytest.raises(InputError, match=r"run/study\.yaml: cannot be read \(Input/output error\)"):
        writing.write(run)


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127 + "a", "𝄞" * 63 + "abc"])
def test_the_longest_names_can_be_published(tmp_path: Path, name: str) -> None:
    assert len(os.fsencode(name)) == 255
    write_text(tmp_path / name, "text")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "text")]
    (tmp_path / "exports").mkdir()
    with _whole(tmp_path / "exports" / name) as part:
        write_text(part / "README.md", "A model card.")
    assert create(tmp_path / "runs", None, name, {}).path == tmp_path / "runs" / name
