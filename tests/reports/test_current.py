"""A report stands for its run while it is of exactly the files that are there: never a stale figure, and nothing looks different."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.helpers.make_run import make_run
from tests.search.study.test_history import CHANGED, SHAPE, change, searched
from winnow import reports
from winnow.reports import writing as report
from winnow.reports.reading import parquet_reader
from winnow.reports.reading.run import read_records
from winnow.reports.schemas import TABLES
from winnow.search.cli.main import main
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.ledger import Ledger
from winnow.spaces.errors import InputError


@pytest.fixture(autouse=True)
def _every_run_is_worthwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_reader, "WORTHWHILE_BYTES", 0)
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "one")
    reports.write(folder)
    return folder


@pytest.fixture
def run(reported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reported, tmp_path / "one"))


def is_current(folder: Path) -> bool:
    """Also that the answer is right either way."""
    current = parquet_reader.read_current(folder)
    read = reports.read(folder)
    if current is not None:
        assert all(current.table(name).equals(read.table(name)) for name in TABLES)
        assert (current.notes, current.study, current.outside) == (read.notes, read.study, read.outside)
        assert list(map(dict, parquet_reader.read_current(folder).trial_rows())) == read.trial_rows()
    assert reports.read_tables(folder).trials.equals(read.trials)
    return current is not None


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_is_left_as_it_was(run, tmp_path, enabled):
    before = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        reports.write(run)
        assert gc.isenabled() == enabled
        with pytest.raises(InputError):
            reports.read(tmp_path / "nothing")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_a_report_stands_for_its_run(run):
    assert is_current(run)
    shutil.rmtree(run / "report")
    assert not is_current(run)


def test_only_the_columns_that_a_view_needs_are_read(run):
    (first, *_) = parquet_reader.read_current(run).trial_rows()
    assert first["status"] == "completed"
    assert list(first.columns) == ["status"]
    assert (first | {"status": "x"})["status"] == "x"
    with pytest.raises(KeyError):
        first["nothing"]


def test_files_that_have_not_changed_since_the_report_are_not_read_again(run, monkeypatch):
    assert is_current(run), "a copy: its files have other times"
    reports.write(run)
    monkeypatch.setattr(parquet_reader, "_digest", lambda file: pytest.fail(f"{file} was read"))
    assert parquet_reader.read_current(run) is not None


@pytest.mark.parametrize("name", parquet_reader.SOURCES)
def test_any_other_byte_in_a_file_of_the_run_makes_it_stale(run, name):
    """Of the same size and time too."""
    file = run / name
    before, times = file.read_bytes(), (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    file.write_bytes(before + b"\n")
    assert not is_current(run)
    old, new = {"study.yaml": (b"sampler: tpe", b"sampler: gpX")}.get(name, (b"0.9", b"0.8"))
    assert old in before
    file.write_bytes(before.replace(old, new, 1))
    os.utime(file, ns=times)
    assert len(before) == file.stat().st_size
    assert not is_current(run)
    file.write_bytes(before)
    assert is_current(run)
    file.unlink()
    if name != "study.yaml":
        assert not is_current(run)
    assert parquet_reader.read_current(run) is None


def test_a_run_that_was_resumed_after_its_report_is_replayed(tmp_path):
    folder = make_run(tmp_path / "run", stage="searching")
    reports.write(folder)
    assert is_current(folder)
    before = len(reports.read_tables(folder).trials)
    for name in parquet_reader.SOURCES:  # as the resumed search leaves it; the report is still that of before
        (folder / name).unlink(missing_ok=True)
    make_run(folder, stage="retrained")
    assert not is_current(folder)
    assert len(reports.read_tables(folder).trials) == 24 > before
    assert reports.winners_table(folder)
    reports.write(folder)
    assert is_current(folder)


def test_what_is_written_while_the_report_is_made_is_not_taken_for_reported(tmp_path, monkeypatch):
    folder = make_run(tmp_path / "run", stage="searching")

    def read_and_go_on(path: Path) -> reports.RunData:
        found = reports.read(path)
        with (path / "epochs.jsonl").open("a") as file:
            file.write(json.dumps({**read_records(path).epoch_lines[-1], "epoch": 6}) + "\n")
        return found

    monkeypatch.setattr(report, "read", read_and_go_on)
    reports.write(folder)
    assert not is_current(folder)


def rewritten(file: Path, key: bytes, value: bytes) -> None:
    table = pq.read_table(file)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, key: value}), file)


@pytest.mark.parametrize("name", ["trials", "importance"])
def test_a_report_that_is_not_whole_or_of_another_version_does_not_count(run, name):
    file = run / "report" / f"{name}.parquet"
    whole = file.read_bytes()
    rewritten(file, b"winnow.source", b"{}")  # of another writing of the report
    assert not is_current(run)
    file.write_bytes(whole)
    rewritten(file, b"winnow.schema_version", b"1")
    assert not is_current(run)
    file.write_bytes(whole[:-20])
    assert not is_current(run)
    file.unlink()
    assert not is_current(run)
    file.write_bytes(whole)
    assert is_current(run)


COMMANDS: tuple[tuple[str, ...], ...] = (
    (),
    ("--top", "3"),
    ("--json",),
    ("--trial", "3"),
    ("--trial", "3", "--json"),
    ("--where", "num_epochs > 1", "--sort", "-objective"),
)


@pytest.mark.parametrize("kind", ["plain", "audit", "changed"])
def test_it_looks_the_same_from_the_report_as_from_the_run(kind, tmp_path, capsys, monkeypatch):
    folder = run_of_kind(kind, tmp_path)
    reports.write(folder)
    assert is_current(folder)
    pictures: list[list[str]] = []
    for bytes_needed in (10**9, 0):
        monkeypatch.setattr(parquet_reader, "WORTHWHILE_BYTES", bytes_needed)
        pictures.append([printed(capsys, "show", folder, *options) for options in COMMANDS])
        pictures[-1].append(printed(capsys, "compare", folder, folder))
        if bytes_needed == 0:
            monkeypatch.setattr(reports, "read", None)
            assert [printed(capsys, "show", folder, *options) for options in COMMANDS] == pictures[-1][:-1]
    assert pictures[0] == pictures[1]
    assert "lies outside" not in pictures[0][0]


def run_of_kind(kind: str, tmp_path: Path) -> Path:
    if kind == "plain":
        return make_run(tmp_path / "run", torn=True)
    folder: RunFolder = searched(tmp_path, **({"audit": 1.0} if kind == "audit" else {}))
    if kind == "changed":
        space, settings = change(folder, CHANGED)
        Ledger(folder, space, settings, SHAPE).close()
        assert reports.read(folder.path).outside
    else:
        assert any(value is not None for value in reports.read(folder.path).trials["audit_objective"].to_pylist())
    return folder.path


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_show_of_a_long_run_imports_no_more_than_arrow(reported):
    heavy = "{'torch', 'ray', 'plotly', 'pandas', 'optuna', 'scipy', 'sklearn'}"
    code = "import sys; from winnow import reports; import winnow.reports.reading.parquet_reader as s; s.WORTHWHILE_BYTES = 0; from rich.console import Console\n"
    code += f"reports.show({str(reported)!r}, Console()); print(sorted(({heavy} | {{'pyarrow'}}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['pyarrow']"
