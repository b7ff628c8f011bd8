"""Reads and writes whole files at a path, or at a URI that every node can reach.

`s3://`, `gs://`, `hdfs://` and `file://` go through pyarrow, any other scheme through the fsspec package that provides it. A URI
may end in options (`s3://bucket/runs?endpoint_override=host:9000&scheme=http`). A file is written whole or not at all: an
object store stores an object in one step; elsewhere the file gets a temporary name and is then renamed.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

from winnow.reports.durable import make_folder, sync_folder, write_whole
from winnow.search.storage.leftovers import new_probe, sweep_new_runs
from winnow.spaces.errors import InputError

OPTION = re.compile(r"(?<=[?&#;])([^=&#;]*)=([^&#;]*)")
SECRET_NAME = re.compile(
    r"key|secret|token|passw|passphrase|pwd|credential|signature|jwt|bearer|authorization|(?:^|[_-])(?:pass|auth|sig|sas)$",
    re.IGNORECASE,
)
PASSWORD = re.compile(r"(?!\[)[^/?#@]*(?::|%3a)(?!\d+[/?#])[^@]*@", re.IGNORECASE)
"""`name:password@` before a host. A password may hold a slash, as many keys of S3 do; the port of a host, and an address in brackets, are none."""
URI = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>()]+")
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
    filesystem, path = _resolve(where)
    with filesystem.open_input_file(path) as file:
        return bytes(file.read())


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
    """Delete a file, if it exists."""
    try:
        if is_uri(where):
            filesystem, path = _resolve(where)
            filesystem.delete_file(path)
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

        filesystem, path = _resolve(where)
        return [info.base_name for info in filesystem.get_file_info(fs.FileSelector(path, allow_not_found=True))]
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
    """Return the size of a file in bytes; 0 if there is no such file."""
    if is_uri(where):
        filesystem, path = _resolve(where)
        return int(filesystem.get_file_info(path).size or 0)
    return Path(where).stat().st_size if Path(where).exists() else 0


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
    except Exception as error:  # every fsspec package has its own errors
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


def without_secrets(uri: str) -> str:
    """Return the URI with *** for `name:password` before the host, and for the values of options named like a secret."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    user = PASSWORD.match(rest)
    # A name alone is not secret in abfs://container@account and hdfs://user@host, but for a web server it may be a token.
    if user is None and scheme.lower() in ("http", "https"):
        user = re.match(r"[^/?#@]+@", rest)
    if user is not None:
        rest = f"***@{rest[user.end() :]}"
    return f"{scheme}://{OPTION.sub(_without_secret, rest)}"


def _without_secret(option: re.Match[str]) -> str:
    """Replace the value of an option that is named like a secret, or that is a URI which holds one."""
    name, value = map(unquote, option.groups())
    is_secret = SECRET_NAME.search(name) is not None or without_secrets(value) != value
    return f"{option[1]}=***" if is_secret else option[0]


def masked(text: str) -> str:
    """Return a text, such as an error of a library, with the secrets of each URI in it replaced as in `without_secrets`."""
    return URI.sub(lambda uri: without_secrets(uri[0]), text)


def _write_local(path: Path, content: bytes | memoryview) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")  # processes on two nodes may have the same id
    if not path.parent.is_dir():
        make_folder(path.parent)
    write_whole(path, lambda part: part.write_bytes(content), temporary)


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
