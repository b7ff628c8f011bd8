"""The folder of a run: its layout, and how it is created, locked and repaired."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from winnow.reports.durable import make_folder, part_of, publish, sync_folder, write_whole
from winnow.reports.reading.files import is_present
from winnow.reports.reading.run import read_study
from winnow.search.storage import remote as storage
from winnow.search.storage.leftovers import sweep_new_runs, sweep_run
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

RUN_NAME = re.compile(r"(?![-.\s])[^/\\]{1,100}(?<!\s)")
"""The names that a user may give to a run: each names a folder in `--runs-dir`, never one elsewhere."""
LOCK_SECONDS = 1.0
"""Seconds to wait for the lock of a run: `winnow show --follow` and `winnow serve` hold it for an instant to see whether a driver does."""
MOST_BYTES = 200
"""Largest length of a name in bytes; most file systems allow 255."""


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, with the paths of its files."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def study(self) -> Path:
        return self.path / "study.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "study.journal"

    @property
    def epochs(self) -> Path:
        return self.path / "epochs.jsonl"

    @property
    def warm_start(self) -> Path:
        """Trials of another run that the sampler knows from the start."""
        return self.path / "warm_start.jsonl"

    @property
    def earlier_runs(self) -> Path:
        """Trials of earlier runs, from which the sampler learns which configs are good (`--learn-from`)."""
        return self.path / "earlier_runs.jsonl"

    @property
    def retrained(self) -> Path:
        return self.path / "retrain.jsonl"

    @property
    def retrained_earlier(self) -> Path:
        """Lines of `retrain.jsonl` whose configs no longer compete because the run was changed."""
        return self.path / "retrain.earlier.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @cached_property
    def shared(self) -> str:
        """Path or URI to which workers write: this folder, or the one in `--storage` that `study.yaml` names."""
        location = self.read_study().get("storage") if self.study.exists() else None
        return location or str(self.path.resolve())

    def checkpoint(self, trial: int) -> str:
        """Return the path or URI of a trial's checkpoint, which its worker writes and the ledger deletes when the trial ends."""
        return storage.join(self.shared, "checkpoints", checkpoint_name(trial))

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def read_study(self) -> dict[str, Any]:
        return read_study(self.path)

    def command(self, verb: str, *more: str) -> str:
        """Return the command line `winnow VERB RUN MORE`, quoted so that it can be pasted into a shell.

        Args:
            verb: The command, such as `resume`.
            *more: Further arguments.
        """
        return shlex.join(["winnow", verb, str(self.path), *more])

    @property
    def then_retrain(self) -> bool:
        """Whether retraining follows the search, as with `winnow run`."""
        return bool(self.read_study().get("then_retrain"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for one driver, as `locked_folder` does, and delete what killed drivers and workers left in it."""
        with locked_folder(self.path):
            sweep_run(self.path, storage.local_path(self.shared))
            storage.sweep_remote(self.shared)
            yield


@contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Lock a folder for one process. The operating system releases the lock when the process ends for any reason.

    Args:
        path: The folder, which exists.

    Raises:
        InputError: Another process has locked it, or it cannot be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
        # A killed driver may have created names that are not on the disk yet; later writes depend on them.
        for folder in (path, path.resolve().parent):
            sync_folder(folder)
    except Timeout:
        raise InputError(f"{path}: another winnow process is working on this run; wait for it, or stop it") from None
    except OSError as error:
        lock.release()
        raise InputError(f"{path}: cannot write here ({error.strerror}); a run needs a writable folder") from error
    try:
        yield
    finally:
        lock.release()


def trial_name(number: int) -> str:
    """Return the name of a trial in files and messages: `trial-00007`."""
    return f"trial-{number:05d}"


def checkpoint_name(number: int) -> str:
    """Return the name of a trial's checkpoint: `trial-00007.pt`."""
    return f"{trial_name(number)}.pt"


def answers_name(number: int) -> str:
    """Return the name of the file with a trial's predictions for the validation images: `validation-trial-00007.npz`."""
    return f"validation-{trial_name(number)}.npz"


def prints_name(number: int) -> str:
    """Return the name of the file with the printed output of a trial, next to its checkpoint: `trial-00007.log`."""
    return f"{trial_name(number)}.log"


def retraining_prints_name(stem: str) -> str:
    """Return the name of the file with the printed output of a retraining, next to its checkpoint: `retraining-t7-s123.log`."""
    return f"retraining-{stem}.log"


def heartbeat_name(number: int) -> str:
    """Return the name of the file that shows that a trial is alive, next to its checkpoint: `.trial-00007.beat`."""
    return f".{trial_name(number)}.beat"


def create(
    parent: Path,
    name: str | None,
    default_name: str,
    study: dict[str, Any],
    warm_start: Iterable[str] = (),
    earlier_runs: Iterable[str] = (),
) -> RunFolder:
    """Create a run folder with its `study.yaml`, the lines of its warm start and those of earlier runs.

    Args:
        parent: Folder of the runs.
        name: Name that the user gave; None: `default_name` is used.
        default_name: Name to which a number is added if it exists already.
        study: Content of `study.yaml`.
        warm_start: Lines of the warm start, as JSON. Default: none.
        earlier_runs: Lines of the earlier runs, as JSON. Default: none.

    Raises:
        InputError: The name exists or is not allowed, or the folder cannot be written.
    """
    check_new(parent, name)
    sweep_new_runs(parent)
    while True:
        path = free_path(parent, name, default_name)
        try:
            _make(path, study, warm_start, earlier_runs)
            return RunFolder(path)
        except OSError as error:
            if name is None and path.exists():
                continue  # another search has just taken the name
            raise InputError(
                f"{path}: cannot write the run folder ({error.strerror or error}); choose another folder with --runs-dir"
            ) from error


def _make(path: Path, study: dict[str, Any], warm_start: Iterable[str], earlier_runs: Iterable[str]) -> None:
    """Create the folder whole or not at all, so that a driver killed here leaves no folder that cannot be resumed."""
    # Not the process id alone: in a container every driver may have the same one.
    part = part_of(path)
    folder = RunFolder(part.with_name(f"{part.name}-{secrets.randbelow(10**9)}"))
    try:
        make_folder(path.parent)
        folder.checkpoints.mkdir(parents=True)
        folder.predictions.mkdir()
        for file, lines in ((folder.warm_start, warm_start), (folder.earlier_runs, earlier_runs)):
            if text := "".join(f"{line}\n" for line in lines):
                write_text(file, text)
        write_study(folder, {**study, "name": path.name})
        publish(folder.path, path)
    except OSError:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


def check_new(parent: Path, name: str | None) -> None:
    """Check, before anything is launched, that a run folder can be created.

    Args:
        parent: Folder of the runs.
        name: Name that the user gave; None: a default one.

    Raises:
        InputError: The name exists or is not allowed, or `parent` is not writable.
    """
    if name is not None and not (RUN_NAME.fullmatch(name) and name.isprintable() and len(name.encode()) <= MOST_BYTES):
        raise InputError(
            f"--name {name!r}: a name has at most 100 printable characters ({MOST_BYTES} bytes), no slash or backslash, and does not begin with "
            "'.', '-' or a space; its parent folder is set by --runs-dir"
        )
    existing = next(folder for folder in (parent, *parent.resolve().parents) if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(f"{existing}: cannot write a run folder here; choose another folder with --runs-dir")
    if name is not None and (path := parent / name).exists():
        raise InputError(
            f"{path}: this run folder exists already. Continue it with: {RunFolder(path).command('resume')}; or choose another --name"
        )


def newest_run() -> RunFolder:
    """Open the run under `runs/` that was started or resumed last.

    Raises:
        InputError: There is none.
    """
    files = sorted(Path("runs").glob("*/study.yaml"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise InputError("there is no run under runs/ yet; name a run folder")
    return RunFolder(files[-1].parent)


def open_run(path: str | Path) -> RunFolder:
    """Open an existing run, by its path or by its name under `runs/`.

    Raises:
        InputError: There is no such run.
    """
    for candidate in (Path(path), Path("runs") / path):
        if (candidate / "study.yaml").is_file():
            return RunFolder(candidate)
    known = sorted(p.parent.name for p in Path("runs").glob("*/study.yaml"))
    raise InputError(
        f"{path}: no run here (a run is a folder with a study.yaml). "
        + (f"Runs under runs/: {', '.join(known)}" if known else "There is no run under runs/ yet")
    )


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of Optuna's journal, and remove an incomplete last line.

    Optuna tolerates an incomplete line only while nothing follows it. Nothing is changed before the last entry has been read.

    Args:
        path: The journal. A missing file has no entries.

    Raises:
        InputError: It is not a file, or a complete line is not JSON. No crash causes such damage, so Winnow does not guess how to repair it.
    """
    if not is_present(path):
        return
    length = 0
    is_torn = False
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if is_torn := not line.endswith(b"\n"):
                break
            length += len(line)
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                raise InputError(
                    f"{path}, line {number}: not JSON, so the study cannot be read further. The lines before it are intact: "
                    f"keep a copy, then cut the file there (head -n {number - 1})"
                ) from None
            yield entry
    if length or is_torn:
        settle_journal(path, length if is_torn else None)


def settle_journal(path: Path, length: int | None) -> None:
    """Wait until a journal is on the disk, since a killed driver may not have waited for its lines, on which later writes depend.

    Args:
        path: The journal.
        length: Number of bytes to which it is cut first, because an incomplete line follows them; None if none does.
    """
    with path.open("r+b") as journal:
        if length is not None:
            journal.truncate(length)
        os.fsync(journal.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, so that a reader never sees half of it.

    Args:
        path: The file.
        text: Its content.
    """
    write_whole(path, lambda part: part.write_bytes(text.encode("utf-8")))


def write_study(folder: RunFolder, study: dict[str, Any]) -> None:
    """Write `study.yaml` whole or not at all.

    Args:
        folder: The run.
        study: Its content.
    """
    write_text(folder.study, yaml.safe_dump(study, sort_keys=False, allow_unicode=True))


def free_path(parent: Path, name: str | None, default_name: str) -> Path:
    """Return the folder that a new run gets: that of the given name, or the first free one of `digits`, `digits-2`, ...

    Args:
        parent: Folder of the runs.
        name: Name that the user gave; None: `default_name` is used.
        default_name: Name to which a number is added if it exists already.
    """
    candidate, count = name or default_name, 1
    while name is None and (parent / candidate).exists():
        count += 1
        candidate = f"{default_name}-{count}"
    return parent / candidate


def space_of(folder: RunFolder, study: Mapping[str, Any] | None = None) -> Space:
    """Return the space of a run.

    Args:
        folder: The run.
        study: The content of its study.yaml. Default: it is read.
    """
    return Space.from_tree((study or folder.read_study())["space"], source=str(folder.study))
