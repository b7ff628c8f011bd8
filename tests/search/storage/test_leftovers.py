"""What killed processes leave behind goes at the next start; what living ones write stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from winnow.search.storage.leftovers import temporary_folder
from winnow.search.storage.run_folder import RunFolder, create

STUDY = {"schema_version": 1, "space": {"epochs": 1}, "settings": {}, "data": {}}


@pytest.fixture
def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_half_written_files_of_a_run_go(tmp_path, dead_process):
    folder = create(tmp_path, "r", "r", STUDY)
    folder.report.mkdir()
    left = [
        folder.checkpoints / ".trial-00003.pt.1a2b3c4d",
        folder.checkpoints / ".winner-t3-s77.pt.1a2b3c4d",
        folder.predictions / ".t3-s77.npz.1a2b3c4d",
        folder.path / f".study.yaml.{dead_process}",
        folder.report / f".trials.parquet.{dead_process}",
    ]
    kept = [
        folder.checkpoints / "trial-00003.pt",
        folder.report / f".trials.parquet.{os.getpid()}",  # `winnow report` may run beside a search
        folder.path / ".notes.of.mine",
    ]
    for file in (*left, *kept):
        file.touch()
    with folder.locked():
        assert [file.name for file in left if file.exists()] == []
        assert [file.name for file in kept if not file.exists()] == []


def test_run_folders_that_were_being_made_go(tmp_path, dead_process):
    def made(pid: int, age: float) -> Path:
        folder = tmp_path / f".digits.{pid}-{len(os.listdir(tmp_path))}"
        (folder / "checkpoints").mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
        return folder

    old, new, alive = made(dead_process, 3600), made(dead_process, 1), made(os.getpid(), 3600)
    create(tmp_path, None, "digits", STUDY)
    assert (old.exists(), new.exists(), alive.exists()) == (False, True, True)


KILLED = """
import time
from winnow.search.storage.leftovers import temporary_folder
with temporary_folder("winnow-test-") as path:
    print(path, flush=True)
    time.sleep(600)
"""


def test_the_temporary_folder_of_a_killed_process_goes(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        theirs = Path(process.stdout.readline().strip())
        with temporary_folder("winnow-test-") as ours:
            assert theirs.exists()  # it is in use
        assert not Path(ours).exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
    with temporary_folder("winnow-test-"):
        assert not theirs.exists()


def test_a_command_can_be_pasted():
    assert RunFolder(Path("my runs/it's")).command("extend", "--trials", "10") == (
        """winnow extend 'my runs/it'"'"'s' --trials 10"""
    )
