"""Removes the leftovers of killed processes: half-written files and folders with temporary names, and temporary folders."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from winnow.reports.durable import LOCK, entries, is_abandoned, is_alive, is_old, remove
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from filelock import BaseFileLock

# `.trial-00007.pt.1a2b3c4d`: the end is random, since processes on two nodes may have the same id.
OF_WORKER = re.compile(r"\..+\.(pt|npz|log|beat)\.[0-9a-f]{8}")
OF_HEARTBEAT = re.compile(r"\.{1,2}(trial|retraining)-.+\.beat(\.[0-9a-f]{8})?")  # two dots: while it is written
NEW_RUN = re.compile(r"\..+\.(\d+)-\d+")  # a run folder that process 4711 was creating: `.digits.4711-140234`
PROBE = re.compile(r"\.{1,2}winnow-probe-.+")  # two dots: a test file that was being written
TEMPORARY = "winnow-"
"""Beginning of the name of every temporary folder."""
MPS = "mps"
"""Purpose of the temporary folder with the pipes of an MPS daemon."""
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def sweep_run(path: Path, shared: Path | None = None) -> None:
    """Delete what killed processes were writing for a run. Call it while holding the lock of the run, so that none of its workers is alive.

    Args:
        path: The run folder.
        shared: The folder to which its workers write. Default: the run folder.
    """
    for root in {path, shared or path}:
        for folder in (root, root / "checkpoints", root / "predictions"):
            sweep_folder(folder)
    for entry in entries(path / "report"):
        if is_old(entry) and is_abandoned(entry):  # `winnow report` holds no lock, and may run on another machine
            remove(entry)


def sweep_folder(folder: Path) -> None:
    """Delete what killed processes were writing in a folder. Call it while no other process of this run or training writes there.

    Args:
        folder: The folder, which need not exist. The folders in it are not searched.
    """
    for entry in entries(folder):
        if is_left_by_worker(entry.name) or is_abandoned(entry):
            remove(entry)


def is_left_by_worker(name: str) -> bool:
    """Return whether a file in a folder of checkpoints or predictions has a name that it has only while a worker lives."""
    return any(kind.fullmatch(name) for kind in (OF_WORKER, OF_HEARTBEAT, PROBE))


def sweep_heartbeats(folder: Path) -> None:
    """Delete the heartbeats of killed workers. The folder may be anyone's, and nothing else in it is touched.

    Args:
        folder: The folder, which need not exist.
    """
    for entry in entries(folder):
        if OF_HEARTBEAT.fullmatch(entry.name):
            remove(entry)


def sweep_files(folder: Path, names: Collection[str]) -> None:
    """Delete what killed workers were writing to some files. The folder may be anyone's, and nothing else in it is touched.

    Args:
        folder: The folder, which need not exist.
        names: Names of the files, which end as `OF_WORKER` says.
    """
    for entry in entries(folder):
        if OF_WORKER.fullmatch(entry.name) and entry.stem[1:] in names:
            remove(entry)


def sweep_new_runs(parent: Path) -> None:
    """Delete unfinished run folders and test files of killed processes. Other processes may be making some at the same time.

    Args:
        parent: The folder of the run folders, or a folder for `--storage`.
    """
    for entry in entries(parent):
        match = NEW_RUN.fullmatch(entry.name)
        is_run = match is not None and entry.is_dir() and not is_alive(int(match[1]))
        if (is_run or PROBE.fullmatch(entry.name)) and is_old(entry):
            remove(entry)


def new_probe() -> str:
    """Return a name for a test file. If its process is killed, `sweep_run` or `sweep_new_runs` deletes it later."""
    return f".winnow-probe-{uuid4().hex[:8]}"


def lock_of(folder: Path) -> BaseFileLock:
    """Return the lock that a process holds while it uses a folder, so that no other process deletes the folder as a leftover.

    Args:
        folder: The folder.
    """
    from filelock import FileLock

    return FileLock(folder / LOCK, thread_local=False)


def sweep_unused(
    folders: Iterable[Path], lock_name: str = LOCK, before: Callable[[Path], object] = lambda folder: None
) -> None:
    """Delete those of some folders whose processes have ended. Folders of other users, symbolic links, and folders without a lock file stay.

    Args:
        folders: The folders, which need not exist.
        lock_name: Name of the file in each of them that its process keeps locked.
        before: Called with each folder before it is deleted. Default: nothing is called.
    """
    from filelock import FileLock, Timeout

    for folder in folders:
        lock = folder / lock_name
        with suppress(Timeout, OSError):
            if folder.is_symlink() or lock.is_symlink() or lock.stat().st_uid != os.getuid():
                continue
            with FileLock(lock, timeout=0):
                before(folder)
                shutil.rmtree(folder, ignore_errors=True)


def sweep_unmarked(folders: Iterable[Path], lock_name: str) -> None:
    """Delete those of some folders whose processes were killed before they made their lock files, if no other program makes such folders.

    Folders that are less than ten minutes old stay: another container may be making one, and its processes are not visible here.

    Args:
        folders: The folders, whose names end in `_` and the id of the process.
        lock_name: Name of the lock file. Folders that hold one stay.
    """
    for folder in folders:
        process_id = folder.name.rpartition("_")[2]
        if folder.is_symlink() or (folder / lock_name).exists() or not process_id.isdecimal():
            continue
        if not is_alive(int(process_id)) and is_old(folder):
            remove(folder)


def sweep_temporary() -> None:
    """Delete the temporary folders, of any purpose, of this user's processes that have ended."""
    root = _temporary_root()
    folders = entries(Path(root)) if root else []
    # Those with a dot were being made; a new one may not be locked yet.
    unfinished = [folder for folder in folders if folder.name.startswith(f".{TEMPORARY}") and is_old(folder)]
    sweep_unused([*unfinished, *(folder for folder in folders if folder.name.startswith(TEMPORARY))], before=_quit_mps)


def _quit_mps(folder: Path) -> None:
    """End the MPS daemon whose pipes are in a folder. Without them nobody could tell it to."""
    if folder.name.startswith(f"{TEMPORARY}{MPS}-"):
        from winnow.search.storage.mps_control import quit_daemon

        quit_daemon(str(folder))


def _temporary_root() -> str | None:
    """Return the folder for temporary files; None if none can be written, as on a full disk, where Python writes a file to find out."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return None


@contextmanager
def temporary_folder(purpose: str) -> Iterator[str]:
    """Create a temporary folder that is removed at the end of the context. Those that killed processes left are removed first.

    Args:
        purpose: A word for its name, such as `tune`.

    Raises:
        InputError: None of the usual folders for temporary files can be written.
    """
    sweep_temporary()
    if _temporary_root() is None:
        raise InputError(
            "no folder for temporary files can be written, perhaps because the disk is full; nothing is lost. Free some space in /tmp, or "
            "set TMPDIR to another folder, then start the command again"
        )
    new = Path(tempfile.mkdtemp(prefix=f".{TEMPORARY}{purpose}-"))
    folder = new.with_name(new.name[1:])
    try:
        with lock_of(new):
            # Other processes look for this name, and must find it locked.
            new.rename(folder)
            yield str(folder)
    finally:
        for left in (new, folder):
            shutil.rmtree(left, ignore_errors=True)


@contextmanager
def temporary_errors(way_on: str) -> Iterator[None]:
    """Turn an error of the disk with the temporary files into one message. Nothing else may be written within the context.

    Args:
        way_on: What to do once there is room, such as a command.

    Raises:
        InputError: The temporary files cannot be written. Ray Tune raises its own error for this.
    """
    try:
        yield
    except Exception as error:
        link: BaseException | None = error
        while link is not None and not (isinstance(link, OSError) and link.errno in DISK_ERRORS):
            link = link.__cause__ or link.__context__
        if not isinstance(link, OSError) or isinstance(error, InputError):
            raise
        folders = dict.fromkeys(filter(None, (os.environ.get("RAY_TMPDIR"), _temporary_root())))
        raise InputError(
            f"{link.filename or ' or '.join(folders)}: temporary files cannot be written ({link.strerror}); nothing is lost. "
            f"Free some space there, or set TMPDIR and RAY_TMPDIR to other folders, then: {way_on}"
        ) from error
