"""Run folders: made once, locked, torn files mended, foreign ones refused."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
from filelock import FileLock

from tests.conftest import REPOSITORY
from tests.helpers.ledgers import RECORDED_DATA
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.reports import durable
from winnow.search.operations import reproduction, training
from winnow.search.operations.training import TrainingJob, fit_and_test
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.run_folder import RunFolder, create, open_run, read_journal
from winnow.spaces.errors import InputError

STUDY = {"schema_version": 1, "space": {"epochs": 1}, "settings": {}, "data": RECORDED_DATA}


def test_default_names_count_up_and_given_names_are_refused(tmp_path):
    assert [create(tmp_path, None, "digits", STUDY).name for _ in range(3)] == ["digits", "digits-2", "digits-3"]
    with pytest.raises(InputError, match=r"exists already.*winnow resume"):
        create(tmp_path, "digits", "digits", STUDY)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits", "digits-2", "digits-3"]


@pytest.mark.parametrize(
    "name",
    [
        "../elsewhere",
        "/tmp/elsewhere",
        "a/b",
        "..",
        ".hidden",
        "-rf",
        "",
        " a",
        "a ",
        "a\\b",
        "a" * 101,
        "字" * 67,
        "a\x1b[31m",
    ],
)
def test_a_name_stays_in_the_folder_of_the_runs(tmp_path, name):
    with pytest.raises(
        InputError, match=r"^--name .*: a name has at most 100 printable.*its parent folder is set by --runs-dir$"
    ):
        create(tmp_path / "runs", name, "digits", STUDY)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["digits", "2026-11-28_first.try", "größe", "it's mine", "a" * 100, "字" * 66])
def test_names_that_are_allowed(tmp_path, name):
    assert create(tmp_path, name, "digits", STUDY).path == tmp_path / name


def test_searches_that_start_together_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create(tmp_path, None, "digits", STUDY), range(24)))
    assert len({folder.path for folder in made}) == 24
    assert all(folder.read_study()["name"] == folder.name for folder in made)


def test_a_file_in_the_way_is_one_clear_message(tmp_path):
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InputError, match=r"cannot write a run folder.*--runs-dir"):
        create(tmp_path / "runs", None, "digits", STUDY)


KILLED_AT_RENAME = """
import os, signal, sys
from pathlib import Path
from winnow.search.storage.run_folder import create

replace = os.replace

def killed(part, path):
    if path.name != "r" or {after}:
        replace(part, path)
    if path.name == "r":
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = killed
create(Path(sys.argv[1]), "r", "r", {study}, ['{{"trial": 0}}'])
"""


@pytest.mark.parametrize("after", [False, True])
def test_a_driver_killed_while_it_makes_the_folder_leaves_none_or_a_warm_one(tmp_path, after):
    """As soon as there is a run that could be resumed, its warm start lies in it."""
    command = [sys.executable, "-c", KILLED_AT_RENAME.format(after=after, study=STUDY), str(tmp_path)]
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -9
    run = RunFolder(tmp_path / "r")
    assert run.path.exists() == after
    if after:
        assert run.read_study()["name"] == "r"
        assert list(read_json_lines(run.warm_start)) == [{"trial": 0}]
    else:
        create(tmp_path, "r", "r", STUDY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "cannot be read as YAML"),
        ("just words", "must contain a mapping, but contains str"),
        ("schema_version: 99\nspace: {}", "upgrade winnow-search"),
        ("schema_version: 1\nspace: {}\nsett", "cannot be read as YAML"),
        ("schema_version: 1\nspace: {}", "cut short: settings is missing"),
        (
            "schema_version: 1\nspace: {}\nsettings: {}\ndata:",
            "cut short: data must be a mapping, but got None",
        ),
    ],
)
def test_study_files_that_are_none(tmp_path, text, message):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        open_run(tmp_path).read_study()


def test_unknown_run_names_the_known_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    create(tmp_path / "runs", "mine", "digits", STUDY)
    assert open_run("mine").path.name == "mine"
    with pytest.raises(InputError, match="Runs under runs/: mine"):
        open_run("yours")


@pytest.mark.parametrize("tail", ['{"epoch": 3, "tr', "{", "\x00\x00"])
def test_a_torn_line_is_closed_off(tmp_path, tail):
    path = tmp_path / "epochs.jsonl"
    path.write_text('{"epoch": 1}\n{"epoch": 2}\n' + tail)
    lines = JsonLines(path)
    lines.append({"epoch": 4})
    lines.close()
    assert [record["epoch"] for record in read_json_lines(path)] == [1, 2, 4]


def test_a_torn_journal_is_cut_back(tmp_path):
    path = tmp_path / "study.journal"
    path.write_text('{"op_code": 0}\n{"op_code": 1, "wor')
    for _ in range(2):
        assert list(read_journal(path)) == [{"op_code": 0}]
        assert path.read_text() == '{"op_code": 0}\n'


@pytest.mark.parametrize("tail", ["", '{"op_code": 3, "wor'])
def test_a_damaged_journal_is_refused_and_untouched(tmp_path, tail):
    path = tmp_path / "study.journal"
    path.write_text('{"op_code": 0}\ngarbage\n{"op_code": 2}\n' + tail)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"line 2: not JSON.*head -n 1"):
        list(read_journal(path))
    assert path.read_bytes() == before


def test_one_driver_per_run_and_the_lock_dies_with_its_process(tmp_path):
    folder = create(tmp_path, "r", "r", STUDY)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom pathlib import Path\nfrom winnow.search.storage.run_folder import RunFolder\n"
            "with RunFolder(Path(sys.argv[1])).locked():\n    print('locked', flush=True)\n    time.sleep(60)",
            str(folder.path),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with pytest.raises(InputError, match="another winnow process"), folder.locked():
        pass
    holder.kill()
    holder.wait()
    with RunFolder(folder.path).locked():
        pass


def test_a_lock_that_is_held_for_an_instant_refuses_nobody(tmp_path):
    """`winnow show --follow` takes it to see whether a process works on the run."""
    folder = create(tmp_path, "r", "r", STUDY)
    lock = FileLock(folder.path / ".lock", thread_local=False)
    lock.acquire()
    Timer(0.2, lock.release).start()
    with folder.locked():
        assert not lock.is_locked


def test_json_lines_are_whole_as_soon_as_they_are_appended(tmp_path):
    lines = JsonLines(tmp_path / "x.jsonl")
    lines.append({"a": 1.5, "b": None})
    assert json.loads((tmp_path / "x.jsonl").read_text()) == {"a": 1.5, "b": None}
    lines.close()


TRAINING = TrainingJob("tiny", tiny_config(epochs=1), 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: create(folder, None, "digits", STUDY),
        lambda folder: training._prepare(folder, False, TRAINING),
        lambda folder: fit_and_test(TRAINING, tiny_data(), CPU, folder),
        reproduction._make_folder,
    ],
    ids=["runs of a search", "train", "one training of bench-recipes", "bench-recipes"],
)
def test_the_names_of_new_folders_are_on_the_disk(tmp_path, monkeypatch, make):
    """Else a power cut takes a folder with all that is in it, however well that was written."""
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    make(tmp_path / "new" / "folder")
    assert {tmp_path, tmp_path / "new"} <= set(synced)
    assert (tmp_path / "new" / "folder").is_dir()
