"""Where workers write: paths, pyarrow's file systems, and an fsspec one of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fsspec
import pytest
import torch

from tests.conftest import REPOSITORY
from winnow.reports import durable
from winnow.reports.masking import without_secrets
from winnow.search.storage import remote as storage
from winnow.search.training.checkpoint import CorruptCheckpoint, load, save
from winnow.search.training.errors import StorageFailed, storage_errors
from winnow.search.training.heartbeat import beating
from winnow.spaces.errors import InputError

# An fsspec file system that another package brings: `shelf://host/path` lies under the folder that SHELF names; where SEALED
# is set nothing can be written.
SHELF = """
import os
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

class Shelf(DirFileSystem):
    protocol = "shelf"
    def __init__(self, **options):
        super().__init__(os.environ["SHELF"], LocalFileSystem())
    def open(self, path, mode="rb", **options):
        if "w" in mode and "SEALED" in os.environ:
            raise PermissionError(13, "Permission denied", path)
        self._answer()
        return super().open(path, mode, **options)
    def rm_file(self, path):
        self._answer()
        return super().rm_file(path)
    def find(self, *args, **options):
        self._answer()
        return super().find(*args, **options)
    def info(self, path, **options):
        self._answer()
        return super().info(path, **options)
    def _answer(self):
        if "GONE" in os.environ:
            raise ShelfError("no answer from s3://anna:s3cr3t@host/runs\\nmore")
class ShelfError(Exception):
    pass
    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("shelf://").rstrip("/")
"""


def install_shelf(site: Path) -> None:
    """As an installed package announces its scheme to fsspec."""
    (site / "shelf.py").write_text(SHELF)
    about = site / "shelf-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fsspec.specs]\nshelf = shelf:Shelf\n")


@pytest.fixture(params=["path", "file://", "memory://"])
def base(request, tmp_path) -> str:
    return {"path": str(tmp_path), "file://": f"file://{tmp_path}", "memory://": f"memory://{tmp_path.name}"}[
        request.param
    ]


def test_what_is_written_is_read_and_deleted(base):
    where = storage.join(storage.check_usable(base), "run", "checkpoints", "a.pt")
    with pytest.raises(FileNotFoundError):
        storage.read(where)
    storage.delete(where)  # no error
    for content in (b"first", b"second"):
        storage.write(where, content)
        assert storage.read(where) == content
    storage.delete(where)
    with pytest.raises(FileNotFoundError):
        storage.read(where)


def test_the_entries_of_a_folder(base):
    assert storage.names(storage.join(base, "run", "checkpoints")) == []
    for name in ("b.pt", "a.pt"):
        storage.write(storage.join(base, "run", "checkpoints", name), b"weights")
    assert sorted(storage.names(storage.join(base, "run", "checkpoints"))) == ["a.pt", "b.pt"]


def test_checkpoints_go_through_it(base):
    where = storage.join(base, "trial-00000.pt")
    save(where, {"epoch": 3, "weights": {"w": torch.arange(3)}})
    assert load(where)["epoch"] == 3
    storage.write(where, storage.read(where)[:-20])
    with pytest.raises(CorruptCheckpoint, match=r"trial-00000\.pt"):
        load(where)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_the_content_is_on_the_disk_before_the_name(scheme, tmp_path, monkeypatch):
    """Else a power cut leaves an empty checkpoint in place of the one before."""
    steps = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (steps.append("rename"), replace(old, new)))
    storage.write(storage.join(f"{scheme}{tmp_path}", "a.pt"), b"content")
    assert steps == ["sync", "rename", "sync"]


def test_the_names_of_new_folders_are_on_the_disk(tmp_path, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync_folder", synced.append)
    for name in ("a.pt", "b.pt"):
        storage.write(str(tmp_path / "run" / "checkpoints" / name), b"weights")
    assert sorted(synced) == [tmp_path, tmp_path / "run", *[tmp_path / "run" / "checkpoints"] * 2]


def test_nothing_is_left_beside(tmp_path):
    for base in (str(tmp_path), f"file://{tmp_path}"):
        storage.write(storage.join(base, "a"), b"whole")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_options_of_a_uri_stay_at_its_end():
    assert storage.join("s3://bucket/runs?scheme=http", "a", "b.pt") == "s3://bucket/runs/a/b.pt?scheme=http"
    assert storage.join("/shared/runs/", "a?b") == "/shared/runs/a?b"


def test_other_processes_share_an_fsspec_storage(tmp_path):
    """One process writes, another reads; the scheme is one that only an installed package knows."""
    site, shelf = tmp_path / "site", tmp_path / "shelf"
    site.mkdir()
    shelf.mkdir()
    install_shelf(site)
    for code in (
        "storage.write(storage.check_usable('shelf://runs') + '/r/t.pt', b'whole')",
        "assert storage.read('shelf://runs/r/t.pt') == b'whole'; assert storage.names('shelf://runs/r') == ['t.pt']",
    ):
        subprocess.run(
            [sys.executable, "-c", f"from winnow.search.storage import remote as storage; {code}"],
            env={"PYTHONPATH": f"{REPOSITORY}:{site}", "SHELF": str(shelf)},
            check=True,
        )
    assert [path.name for path in shelf.rglob("*") if path.is_file()] == ["t.pt"]


def test_the_own_errors_of_an_fsspec_package_are_errors_of_the_storage(tmp_path, monkeypatch):
    """As those of paramiko, azure and gcsfs, which are no OSError. Else a storage that fails for a moment fails trials for good."""
    monkeypatch.setenv("SHELF", str(tmp_path))
    monkeypatch.setenv("GONE", "yes")
    module: dict[str, type] = {}
    exec(SHELF, module)
    fsspec.register_implementation("shelf", module["Shelf"], clobber=True)
    for used in (storage.read, lambda uri: storage.write(uri, b"x"), storage.delete, storage.names, storage.size):
        with pytest.raises(OSError, match=r"^ShelfError: no answer from s3://\*\*\*@host/runs$"):
            used("shelf://runs/r/t.pt")
    with pytest.raises(StorageFailed, match="ShelfError: no answer"), storage_errors("shelf://runs"):
        storage.read("shelf://runs/r/t.pt")
    with beating("shelf://runs/r/t.beat"):
        pass
    with pytest.raises(InputError, match=r"cannot write and read there \(ShelfError: no answer"):
        storage.check_usable("shelf://runs")


@pytest.mark.parametrize("given", ["nonsense://bucket/runs", "sftp://host/runs"])
def test_a_scheme_nobody_knows_is_refused(given):
    with pytest.raises(InputError, match=f"--storage {given}: cannot write and read there"):
        storage.check_usable(given)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--storage .*file/runs: cannot write and read there"):
        storage.check_usable(str(tmp_path / "file" / "runs"))


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("s3://AKIA:s3cr3t@bucket/runs", "s3://***@bucket/runs"),
        (
            "s3://bucket/runs?access_key=AKIA&secret_key=s3cr3t&region=x",
            "s3://bucket/runs?access_key=***&secret_key=***&region=x",
        ),
        ("abfs://container/runs?Account_Key=s3cr3t", "abfs://container/runs?Account_Key=***"),
        ("s3://bucket?secret_key=s3cr3t", "s3://bucket?secret_key=***"),
        ("s3://AKIA:s3cr3t/with+slash@bucket/runs@2", "s3://***@bucket/runs@2"),
        ("s3://AKIA%3As3cr3t@bucket/runs", "s3://***@bucket/runs"),
        ("s3://AKIA:123/s3cr3t@bucket/runs", "s3://***@bucket/runs"),  # 123 is no port
        ("hdfs://anna:1234567/s3cr3t@host/runs", "hdfs://***@host/runs"),
        ("s3://bucket/runs?pwd=s3cr3t", "s3://bucket/runs?pwd=***"),
        ("sftp://host/runs?passphrase=s3cr3t&port=22", "sftp://host/runs?passphrase=***&port=22"),
        ("smb://host/runs?pass=s3cr3t", "smb://host/runs?pass=***"),
        ("webhdfs://host/runs?auth=s3cr3t", "webhdfs://host/runs?auth=***"),
        ("webhdfs://host/runs?basic_auth=s3cr3t", "webhdfs://host/runs?basic_auth=***"),
        ("webhdfs://host/runs?authorization=s3cr3t", "webhdfs://host/runs?authorization=***"),
        ("dbfs://host/runs?jwt=s3cr3t", "dbfs://host/runs?jwt=***"),
        ("az://container/runs?sv=2024&sig=s3cr3t&se=x", "az://container/runs?sv=2024&sig=***&se=x"),
        (
            "s3://bucket/runs?endpoint_override=http://anna:s3cr3t@host:9000",
            "s3://bucket/runs?endpoint_override=***",
        ),
        (
            "s3://bucket/runs?endpoint_override=http%3A%2F%2Fanna%3As3cr3t%40host",
            "s3://bucket/runs?endpoint_override=***",
        ),
    ],
)
def test_a_secret_in_a_uri_is_refused_and_not_repeated(uri, shown):
    with pytest.raises(InputError) as refused:
        storage.check_usable(uri)
    assert str(refused.value).startswith(f"--storage {shown}: a password or key in the URI")
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "place",
    [
        "s3://bucket/runs?endpoint_override=host:9000&scheme=http",
        "file:///mnt/runs",
        "abfs://container@account.dfs.core.windows.net/runs",
        "/mnt/runs@2",
        "s3://bucket/runs@2?signed=yes",
        "ftp://host/runs?passive=yes&author=anna&authority=x&bypass_cache=1",
        "hdfs://host:9000/runs@2",
        "hdfs://user@[::1]:9000/runs@2",
        "file:///mnt/key=3/runs",
    ],
)
def test_a_place_without_secrets_is_left_alone(place):
    assert without_secrets(place) == place
