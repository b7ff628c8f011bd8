"""Records the code that this user trusts, as pairs of a folder and an import path that the folder names.

A run that was started here names code that its user chose, so a later `winnow resume` does not ask again. The record is kept
outside of folders that a user may receive from others, and holds only a hash of each pair. After a run is moved or copied, the user
is asked again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def remember(folder: Path, import_paths: Iterable[str]) -> None:
    """Record that code named by a folder may run. If the record cannot be written, the user is asked again later.

    Args:
        folder: The run or export.
        import_paths: The import paths that it names, such as `package.module:function`.
    """
    for import_path in import_paths:
        with suppress(OSError, RuntimeError):
            note = _note(folder, import_path)
            note.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            note.touch(mode=0o600)


def is_remembered(folder: Path, import_path: str) -> bool:
    """Return whether this user has already allowed a folder to run certain code.

    Args:
        folder: The run or export.
        import_path: The import path that it names.
    """
    try:
        return _note(folder, import_path).is_file()
    except (OSError, RuntimeError):  # there is no HOME
        return False


def _note(folder: Path, import_path: str) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    pair = f"{folder.resolve()}\n{import_path}"
    return Path(state) / "winnow" / "trusted-code" / hashlib.sha256(pair.encode("utf-8", "surrogateescape")).hexdigest()
