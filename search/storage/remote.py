"""Reads and writes whole files at a path, or at a URI that every node can reach.

`s3://`, `gs://`, `hdfs://` and `file://` go through pyarrow, any other scheme through the fsspec package that provides it. A URI
may end in options (`s3://bucket/runs?endpoint_override=host:9000&scheme=http`). A file is written whole or not at all: an
object store stores an object in one step; elsewhere the file gets a temporary name and is then renamed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

from winnow.reports.durable import make_folder, sync_folder, write_whole
from winnow.reports.masking import masked, without_secrets
from winnow.search.storage.leftovers import is_left_by_worker, new_probe, sweep_new_runs
from winnow.spaces.errors import InputError

OBJECT_STORES = ("s3", "gcs", "gs", "abfs", "az")


def is_uri(where: str) -> bool:
    return "://" in where


def local_path(where: str) -> Path | None:
    """Return the path of a file or folder on this machine or a shared file system; None for any other URI."""
    if not is_uri(where):
        return Path(where)
    return Path(_resolve(where)[1]) if where.startswith("file:") else None


def join(base: str, *names: str) -> str:
    """Return `base/name/...`; the options of a URI stay at its end.

    Args:
        base: A folder or a URI.
        *names: Parts of the path below it.
    """
    folder, question, options = base.partition("?") if is_uri(base) else (base, "", "")
    return "/".join([folder.rstrip("/"), *names]) + question + options


def read(where: str) -> bytes:
    """Return the content of a file.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
    """
    if not is_uri(where):
        with open(where, "rb") as whole:
            return whole.read()
    with _errors_as_os_errors():
        filesystem, path = _resolve(where)
        try:
            with filesystem.open_input_file(path) as file:
                return bytes(file.read())
        except FileNotFoundError:
            _check_answers(filesystem, path)
            raise


def write(where: str, content: bytes | memoryview) -> None:
    """Write a file, whole or not at all, and create missing folders.

    Args:
        where: A path or a URI.
        content: All bytes of the file.

    Raises:
        OSError: It cannot be written.
    """
    if not is_uri(where):
        _write_local(Path(where), content)
        return
    with _errors_as_os_errors():
        filesystem, path = _resolve(where)
        if filesystem.type_name == "local":  # `file://`: a rename must not be on the disk before the content
            _write_local(Path(path), content)
            return
        if any(name in filesystem.type_name for name in OBJECT_STORES):
            with filesystem.open_output_stream(path) as file:
                file.write(content)
            return
        folder, _, name = path.rpartition("/")
        temporary = f"{folder}/.{name}.{uuid4().hex[:8]}"
        filesystem.create_dir(folder, recursive=True)
        with filesystem.open_output_stream(temporary) as file:
            file.write(content)
        filesystem.move(temporary, path)


def delete(where: str) -> None:
    """Delete a file, if it exists.

    Raises:
        OSError: It cannot be deleted.
    """
    try:
        if is_uri(where):
            with _errors_as_os_errors():
                filesystem, path = _resolve(where)
                try:
                    filesystem.delete_file(path)
                except FileNotFoundError:
                    _check_answers(filesystem, path)
        else:
            os.unlink(where)
    except FileNotFoundError:
        pass


def names(where: str) -> list[str]:
    """Return the names of the entries of a folder, in no order; empty if there is no such folder.

    Args:
        where: Path or URI of the folder.

    Raises:
        OSError: It cannot be read.
    """
    if is_uri(where):
        from pyarrow import fs

        with _errors_as_os_errors():
            filesystem, path = _resolve(where)
            found = [info.base_name for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))]
            if not found:
                _check_answers(filesystem, path)
            return found
    try:
        return os.listdir(where)
    except FileNotFoundError:
        return []


def sync(where: str) -> None:
    """Wait until it is on the disk which names a folder holds, since a power failure could bring deleted files back.

    Args:
        where: Path or URI of the folder. Other storages than the local one do that themselves.

    Raises:
        OSError: The disk fails.
    """
    if (folder := local_path(where)) is not None:
        sync_folder(folder)


def size(where: str) -> int:
    """Return the size of a file in bytes; 0 if there is no such file.

    Raises:
        OSError: The storage cannot be read.
    """
    if is_uri(where):
        with _errors_as_os_errors():
            filesystem, path = _resolve(where)
            return int(filesystem.get_file_info(path).size or 0)
    return Path(where).stat().st_size if Path(where).exists() else 0


def sweep_remote(where: str) -> None:
    """Delete what killed workers were writing for a run at a URI that is no folder here. `sweep_run` does it for folders.

    Call it while holding the lock of the run, so that none of its workers is alive. If the storage does not answer, nothing is deleted.

    Args:
        where: Path or URI to which the workers of the run write.
    """
    if local_path(where) is not None:
        return
    for part in ("checkpoints", "predictions"):
        with suppress(OSError):
            for name in filter(is_left_by_worker, names(join(where, part))):
                delete(join(where, part, name))


def check_usable(storage: str) -> str:
    """Check that files can be written, read and deleted in `storage`, and return it as an absolute path or a URI.

    Raises:
        InputError: They cannot, or the URI holds a secret, which would be visible in `study.yaml`, the tables and the report.
    """
    check_no_secret("--storage", storage, "the run and its report")
    where = storage if is_uri(storage) else str(Path(storage).resolve())
    probe = join(where, new_probe())
    try:
        if (folder := local_path(where)) is not None:
            sweep_new_runs(folder)
        write(probe, b"winnow")
        if read(probe) != b"winnow":
            raise OSError("the content that was read differs from the content that was written")
        delete(probe)
    except OSError as error:
        raise InputError(f"--storage {storage}: cannot write and read there ({_first_line(error)})") from error
    return where


def check_no_secret(option: str, uri: str, where: str) -> None:
    """Check that a URI holds no password or key.

    Args:
        option: The option that gives it, for the message.
        uri: The URI, or any other value of the option.
        where: The place in which the secret would be visible, for the message.

    Raises:
        InputError: It does.
    """
    if (shown := without_secrets(uri)) != uri:
        raise InputError(
            f"{option} {shown}: a password or key in the URI would be written into {where}; put it into environment variables, "
            "such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into the configuration file of the storage"
        )


def _write_local(path: Path, content: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")  # processes on two nodes may have the same id
    if not path.parent.is_dir():
        make_folder(path.parent)
    write_whole(path, lambda part: part.write_bytes(content), temporary)


@contextmanager
def _errors_as_os_errors() -> Iterator[None]:
    """Turn the errors that each fsspec package has of its own into OSError, which is handled as an error of the storage."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {masked(_first_line(error))}") from error


def _check_answers(filesystem: Any, path: str) -> None:
    """Check that a path of an fsspec package is really missing. Its `exists` and `isfile` are also false if the storage does not answer."""
    from pyarrow import fs

    if isinstance(filesystem, fs.PyFileSystem) and isinstance(filesystem.handler, fs.FSSpecHandler):
        with suppress(FileNotFoundError):
            filesystem.handler.fs.info(path)


def _resolve(where: str) -> tuple[Any, str]:
    """Return (pyarrow file system, path in it). File systems are kept per host and options, because S3 looks up a bucket's region."""
    scheme, _, rest = where.partition("://")
    location, question, options = rest.partition("?")
    host, _, path = location.partition("/")
    filesystem, prefix = _filesystem(f"{scheme}://{host}", question + options)
    return filesystem, prefix + path


@lru_cache
def _filesystem(base: str, options: str) -> tuple[Any, str]:
    """Return (file system, prefix of the path of every file of this host)."""
    import pyarrow as pa
    from pyarrow import fs

    anything = "x"
    try:
        filesystem, path = fs.FileSystem.from_uri(f"{base}/{anything}{options}")
    except pa.ArrowInvalid:
        import fsspec

        fsspec_system, path = fsspec.core.url_to_fs(f"{base}/{anything}{options}")
        filesystem = fs.PyFileSystem(fs.FSSpecHandler(fsspec_system))
    return filesystem, path.removesuffix(anything)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
