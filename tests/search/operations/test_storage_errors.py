"""What the user is told when the files of a run fail, or are gone."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune import TuneError

from tests.helpers.ledgers import RECORDED_DATA
from tests.helpers.tiny import CPU, tiny_config, tiny_data
from winnow.search.operations import reproduction, training
from winnow.search.operations.execution import storage_errors
from winnow.search.ray_backend.preflight import check_nodes
from winnow.search.ray_backend.runtime_env import runtime_env
from winnow.search.resources.mps import mps_daemon
from winnow.search.storage import remote
from winnow.search.storage.leftovers import temporary_errors
from winnow.search.storage.run_folder import RunFolder, create
from winnow.spaces.errors import InputError

STUDY = {"schema_version": 1, "space": {"epochs": 1}, "settings": {}, "data": RECORDED_DATA}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return create(tmp_path, "r", "r", STUDY)


def test_an_error_of_the_disk_names_what_continues_the_run(folder):
    with (
        pytest.raises(InputError, match=r"No space left.*is kept.*then: winnow retrain \S+/r$"),
        storage_errors(folder, "retrain"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fails", [False, True])
def test_a_deleted_run_is_not_called_kept(folder, fails):
    """Also if nothing fails, since the open files of a deleted folder can still be written."""

    def delete() -> None:
        with storage_errors(folder):
            shutil.rmtree(folder.path)
            if fails:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    with pytest.raises(
        InputError, match=r"/r: was deleted or moved while winnow worked on it; its records are no longer"
    ):
        delete()


@pytest.mark.parametrize("verb", ["resume", "retrain"])
def test_an_interrupted_command_does_not_call_a_deleted_run_kept(folder, verb):
    with pytest.raises(KeyboardInterrupt), storage_errors(folder, verb):
        raise KeyboardInterrupt
    shutil.rmtree(folder.path)
    with pytest.raises(InputError, match=r"/r: was deleted or moved"), storage_errors(folder, verb):
        raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_training_whose_folder_is_deleted_says_so(tmp_path, epoch):
    output = tmp_path / "out"

    def delete(figures: dict[str, Any]) -> None:
        if figures["epoch"] == epoch:
            shutil.rmtree(output)

    job = training.TrainingJob("tiny", tiny_config(epochs=2), 1)
    with (
        pytest.raises(InputError, match=r"^--output: No such file or directory: \S+/out\. Start it again once"),
        training._written_to(output),
    ):
        training.fit_and_test(job, tiny_data(), CPU, output, listener=delete)
    with (
        pytest.raises(InputError, match=r"^--output: No such file or directory: \S+/out\. Finished trainings are kept"),
        reproduction._written_to(output),
    ):
        (output / "results.jsonl").read_text()


def fail_as_tune_does() -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        raise TuneError(traceback.format_exc())  # noqa: B904


def fail() -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/full/file")


@pytest.mark.parametrize(
    ("failing", "file", "reason"),
    [(fail_as_tune_does, None, errno.ENOSPC), (fail, None, errno.EDQUOT), (full, "/full/file", errno.ENOSPC)],
)
def test_a_full_disk_of_temporary_files_is_named(monkeypatch, failing, file, reason):
    monkeypatch.setenv("RAY_TMPDIR", "/rays")
    with pytest.raises(InputError) as raised, temporary_errors("winnow resume r"):
        failing()
    assert str(raised.value) == (
        f"{file or f'/rays or {tempfile.gettempdir()}'}: temporary files cannot be written ({os.strerror(reason)}); nothing is lost. "
        "Free some space there, or set TMPDIR and RAY_TMPDIR to other folders, then: winnow resume r"
    )


@pytest.mark.parametrize(
    ("what", "function", "made"),
    [
        (tempfile, "mkdtemp", lambda: runtime_env([])),
        (Path, "write_bytes", lambda: runtime_env([])),
        (tempfile, "mkdtemp", mps_daemon),
    ],
    ids=["folder of code for a cluster", "that code", "folder of the MPS daemon"],
)
def test_a_full_disk_of_temporary_files_is_named_before_a_search_too(monkeypatch, what, function, made):
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(what, function, full)
    with (
        pytest.raises(InputError, match=r"^/full/file: temporary files cannot be written .*: start the command again$"),
        made(),
    ):
        pass


def test_a_full_disk_where_nodes_are_checked_is_named(monkeypatch):
    monkeypatch.setattr(remote, "write", full)
    with pytest.raises(
        InputError, match=r"^runs: cannot write there \(No space left on device\); nothing was started\."
    ):
        check_nodes(SimpleNamespace(nodes=list), [], "runs", "cpu")


@pytest.mark.parametrize("error", [ConnectionError("Ray is gone"), TuneError("a bug"), InputError("bad input")])
def test_another_error_is_no_full_disk(error):
    with pytest.raises(type(error), match=str(error)), temporary_errors("winnow resume r"):
        raise error
