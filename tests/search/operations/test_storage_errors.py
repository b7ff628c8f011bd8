"""What the user is told when the files of a run fail, or are gone."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import traceback

import pytest
from ray.tune import TuneError

from winnow.search.operations.execution import storage_errors
from winnow.search.storage.leftovers import temporary_errors
from winnow.search.storage.run_folder import RunFolder, create
from winnow.spaces.errors import InputError

STUDY = {"schema_version": 1, "space": {"epochs": 1}, "settings": {}, "data": {}}


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


def fail_as_tune_does() -> None:
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        raise TuneError(traceback.format_exc())  # noqa: B904


def fail() -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.parametrize(("failing", "reason"), [(fail_as_tune_does, errno.ENOSPC), (fail, errno.EDQUOT)])
def test_a_full_disk_of_temporary_files_is_named(failing, reason):
    with pytest.raises(InputError) as raised, temporary_errors("winnow resume r"):
        failing()
    folders = " or ".join(dict.fromkeys(filter(None, (os.environ.get("RAY_TMPDIR"), tempfile.gettempdir()))))
    assert str(raised.value).startswith(f"{folders}: temporary files cannot be written ({os.strerror(reason)})")
    assert str(raised.value).endswith("then: winnow resume r")


@pytest.mark.parametrize("error", [ConnectionError("Ray is gone"), TuneError("a bug"), InputError("bad input")])
def test_another_error_is_no_full_disk(error):
    with pytest.raises(type(error), match=str(error)), temporary_errors("winnow resume r"):
        raise error
