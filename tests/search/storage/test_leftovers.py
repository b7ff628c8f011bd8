"""What killed processes leave behind goes at the next start; what living ones write stays."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.helpers.ledgers import RECORDED_DATA
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports.durable import LOCK, sweep_parts
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.storage import remote as storage
from winnow.search.storage.leftovers import new_probe, sweep_temporary, temporary_errors, temporary_folder
from winnow.search.storage.remote import check_usable
from winnow.search.storage.run_folder import RunFolder, answers_name, create, write_text
from winnow.spaces.errors import InputError

STUDY = {"schema_version": 1, "space": {"epochs": 1}, "settings": {}, "data": RECORDED_DATA}


@pytest.fixture
def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def age(path: Path, seconds: float = 3600) -> None:
    """Let a file or folder be as old as this."""
    os.utime(path, (time.time() - seconds,) * 2)


def test_half_written_files_of_a_run_go(tmp_path, dead_process):
    folder = create(tmp_path, "r", "r", STUDY)
    folder.report.mkdir()
    left = [
        folder.checkpoints / ".trial-00003.pt.1a2b3c4d",
        folder.checkpoints / ".winner-t3-s77.pt.1a2b3c4d",
        folder.predictions / ".t3-s77.npz.1a2b3c4d",
        folder.predictions / f".{answers_name(3)}.1a2b3c4d",
        folder.checkpoints / ".trial-00003.log.1a2b3c4d",  # of a storage at `file://`, like the next
        folder.checkpoints / "..trial-00003.beat.1a2b3c4d",
        folder.checkpoints / f"{new_probe()}-node",
        folder.path / f".{new_probe()}.1a2b3c4d",
        folder.path / f".study.yaml.{dead_process}",
        folder.report / f".trials.parquet.{dead_process}",
    ]
    kept = [
        folder.checkpoints / "trial-00003.pt",
        folder.report / f".trials.parquet.{os.getpid()}",  # `winnow report` may run beside a search,
        folder.report / f".epochs.parquet.{dead_process}",  # also on another machine
        folder.path / ".notes.of.mine",
        folder.path / ".notes.20261130",
    ]
    for file in (*left, *kept):
        file.touch()
    age(left[-1])
    with folder.locked():
        assert [file.name for file in left if file.exists()] == []
        assert [file.name for file in kept if not file.exists()] == []


def test_half_written_folders_of_a_run_go(tmp_path, dead_process):
    folder = create(tmp_path, "r", "r", STUDY)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    killed, running, linked = (folder.path / f".winner-{rank}.{dead_process}" for rank in (1, 2, 3))
    for export in (killed, running):
        (export / "member-1").mkdir(parents=True)
    linked.symlink_to(theirs, target_is_directory=True)
    with FileLock(running / LOCK), folder.locked():  # an export of another container or machine
        assert (killed.exists(), running.is_dir(), linked.is_symlink()) == (False, True, False)
    assert theirs.is_dir()


def test_half_written_files_in_another_storage_go(tmp_path):
    """As at `hdfs://`, where a file has a temporary name until it is whole."""
    folder = create(tmp_path, "r", "r", {**STUDY, "storage": f"memory://{tmp_path.name}/r"})
    left = ("checkpoints/.trial-00003.pt.1a2b3c4d", "checkpoints/.trial-00003.beat", "predictions/.t3-s77.npz.1a2b3c4d")
    kept = ("checkpoints/trial-00003.pt", "predictions/t3-s77.npz", "predictions/.mine")
    for name in (*left, *kept):
        storage.write(storage.join(folder.shared, name), b"whole")
    with folder.locked():
        for part in ("checkpoints", "predictions"):
            names = {name for name in map(Path, kept) if name.parent.name == part}
            assert set(storage.names(storage.join(folder.shared, part))) == {name.name for name in names}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_half_written_files_in_the_storage_of_a_run_go(tmp_path, scheme):
    storage = tmp_path / "storage"
    folder = create(tmp_path, "r", "r", {**STUDY, "storage": f"{scheme}{storage}"})
    left = [storage / "checkpoints" / name for name in (".trial-00003.pt.1a2b3c4d", ".trial-00003.beat")]
    left.append(storage / "predictions" / ".t3-s77.npz.1a2b3c4d")
    kept = [storage / "checkpoints" / "trial-00003.pt"]
    for file in (*left, *kept):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    with folder.locked():
        assert [file.name for file in left if file.exists()] == []
        assert [file.name for file in kept if not file.exists()] == []


def test_no_room_for_temporary_files_is_told(monkeypatch):
    """On a full disk a folder may still be made, but Python, which looks for a place by writing a file, finds none."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile._os, "write", refuse)
    monkeypatch.setattr(tempfile._io, "open", refuse)
    sweep_temporary()
    with (
        pytest.raises(InputError, match=r"^no folder for temporary files can be written.*set TMPDIR"),
        temporary_errors("resume"),
    ):
        temporary_folder("tune").__enter__()
    with (
        pytest.raises(InputError, match=r"temporary files cannot be written \(No space left"),
        temporary_errors("resume"),
    ):
        refuse()


def test_what_a_killed_write_left_goes_with_the_next_write_of_the_same_file(tmp_path, dead_process):
    """Such as a table of the report of a run that nobody continues."""
    left = tmp_path / f".trials.parquet.{dead_process}"
    kept = tmp_path / f".epochs.parquet.{dead_process}"
    for file in (left, kept):
        file.touch()
        age(file)
    write_text(tmp_path / "trials.parquet", "whole")
    assert {file.name for file in tmp_path.iterdir()} == {"trials.parquet", kept.name}


def test_what_another_machine_is_writing_stays(tmp_path, dead_process):
    """Its process has no id here, but writes the same file in a folder that both machines reach."""
    written = tmp_path / f".trials.parquet.{dead_process}"
    written.touch()
    age(written, 60)
    write_text(tmp_path / "trials.parquet", "whole")
    assert {file.name for file in tmp_path.iterdir()} == {"trials.parquet", written.name}


def test_what_a_killed_training_left_goes_and_other_files_stay(tmp_path, dead_process):
    """That of `winnow train --output` or `winnow bench-recipes`."""
    names = {"checkpoint.pt", "weights.pt", "predictions.npz"}
    foreign = {".notes.20261130", ".access.log.20261130", f".notes.{dead_process}"}  # `--output .` is allowed
    for name in foreign | {f".{name}.1a2b3c4d" for name in names}:
        (tmp_path / name).touch()
    fit_and_test(TrainingJob("tiny", tiny_config(epochs=1), 1), tiny_data(), CPU, tmp_path)
    written = names | {"config.yaml", "epochs.jsonl", "result.json"}
    assert {file.name for file in tmp_path.iterdir()} == written | foreign


def test_what_killed_exports_left_beside_their_output_goes(tmp_path, dead_process):
    left = tmp_path / f".my.export.{dead_process}"
    kept = [tmp_path / name for name in (f".my.export.{os.getpid()}", f".another.{dead_process}", ".my.export.old")]
    for folder in (left, *kept):
        (folder / "member-1").mkdir(parents=True)
        age(folder)
    sweep_parts(tmp_path / "my.export")
    assert not left.exists()
    assert [folder.name for folder in kept if not folder.exists()] == []


def test_run_folders_that_were_being_made_go(tmp_path, dead_process):
    def made(pid: int, seconds: float) -> Path:
        folder = tmp_path / f".digits.{pid}-{len(os.listdir(tmp_path))}"
        (folder / "checkpoints").mkdir(parents=True)
        age(folder, seconds)
        return folder

    old, new, alive = made(dead_process, 3600), made(dead_process, 1), made(os.getpid(), 3600)
    create(tmp_path, None, "digits", STUDY)
    assert (old.exists(), new.exists(), alive.exists()) == (False, True, True)


@pytest.mark.parametrize("place", ["runs", "storage", "storage as a URI"])
def test_old_test_files_go(tmp_path, place):
    """Those of a start that was killed while it checked its nodes. New ones may belong to another start."""

    def made(seconds: float) -> Path:
        file = tmp_path / new_probe()
        file.touch()
        age(file, seconds)
        return file

    old, new = made(3600), made(1)
    if place == "runs":
        create(tmp_path, None, "digits", STUDY)
    else:
        check_usable(f"{'file://' if 'URI' in place else ''}{tmp_path}")
    assert (old.exists(), new.exists()) == (False, True)


KILLED = """
import time
from winnow.search.storage.leftovers import temporary_folder
with temporary_folder("test") as path:
    print(path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_the_temporary_folder_of_a_killed_process_goes(temporary):
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with temporary_folder("another-purpose") as ours:
            in_use = {path.name for path in temporary.iterdir()}
        process.send_signal(signal.SIGKILL)
    assert in_use == {theirs.name, Path(ours).name}
    assert list(temporary.iterdir()) == [theirs]
    with temporary_folder("another-purpose"):
        assert not theirs.exists()
    assert list(temporary.iterdir()) == []


def test_temporary_folders_that_were_being_made_go(temporary):
    """A new one may belong to a process that has not locked it yet."""

    def made(seconds: float) -> Path:
        folder = temporary / f".winnow-tune-{seconds:g}"
        folder.mkdir()
        (folder / ".lock").touch()
        age(folder, seconds)
        return folder

    old, new = made(3600), made(1)
    with temporary_folder("tune"):
        assert (old.exists(), new.exists()) == (False, True)


def test_other_temporary_folders_stay(temporary):
    theirs = temporary / "theirs"
    (temporary / "winnow-1000").mkdir()  # Ray's private folder has no lock
    theirs.mkdir()
    (theirs / LOCK).touch()
    (temporary / "winnow-link").symlink_to(theirs, target_is_directory=True)
    sweep_temporary()
    assert len(list(temporary.iterdir())) == 3
    assert (theirs / LOCK).exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_temporary_folders_of_other_users_stay(temporary):
    folder = temporary / "winnow-tune-12345678"
    folder.mkdir()
    (folder / LOCK).touch()
    os.chown(folder / LOCK, 12345, -1)
    sweep_temporary()
    assert folder.exists()


def test_a_command_can_be_pasted():
    assert RunFolder(Path("my runs/it's")).command("extend", "--trials", "10") == (
        """winnow extend 'my runs/it'"'"'s' --trials 10"""
    )
