"""Prepares this machine for a local Ray: a short, writable, private folder for its sockets and logs, and a place for its token."""

from __future__ import annotations

import os
import secrets
import shlex
import stat
import sys
import tempfile
from pathlib import Path

from winnow.spaces.errors import InputError

LONGEST_TEMPORARY = 103 - len("/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")
"""Longest path, in bytes, of a folder for Ray's sockets: a socket's path may have 103 bytes on macOS and 107 on Linux."""
NO_HOME = "/nonexistent"
"""The folder that Debian gives to users without a home. It does not exist, so nothing is written there."""


def prepare_local_start() -> None:
    """Set the environment variables that Ray needs to start on this machine. Must be called before it starts.

    Raises:
        InputError: RAY_TMPDIR names a folder that cannot be used, or a private folder cannot be created.
    """
    _use_short_folder()
    if not _home_can_keep_token():
        # Ray would save its token under HOME. No other process needs to know the token of a local Ray.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def name_home() -> None:
    """Set HOME for a user who has no home, as in a container that runs as an arbitrary user. Ray Tune cannot be imported without one."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = NO_HOME


def usual_temporary() -> str:
    """Return the folder in which Ray makes its folder `ray` unless RAY_TMPDIR is set."""
    return os.environ.get("TMPDIR") or "/tmp"


def private_folder(parent: str) -> str:
    """Return the folder below another one in which only Winnow's Ray of this user keeps its files."""
    return os.path.join(parent, f"winnow-{os.getuid()}")


def open_to_others() -> str | None:
    """Return a message if other users may enter the folder that RAY_TMPDIR names; None if they may not.

    There is no message about a folder with the sticky bit, which is shared on purpose, as /tmp is.
    """
    named = os.environ.get("RAY_TMPDIR")
    if named is None or sys.platform == "win32" or not os.path.isdir(named):
        return None
    about = os.stat(named)
    mode = stat.S_IMODE(about.st_mode)
    if about.st_uid != os.getuid() or mode & stat.S_ISVTX or not mode & (stat.S_IRWXG | stat.S_IRWXO):
        return None
    keep_out = shlex.join(["chmod", "700", named])
    return f"RAY_TMPDIR={named}: others on this machine may enter it (mode {mode:04o}); to keep them out: {keep_out}"


def _use_short_folder() -> None:
    if sys.platform == "win32":  # Ray has no socket files there
        return
    named = os.environ.get("RAY_TMPDIR")
    if named is not None:
        problem = _problem(named) or _problem_of_owner(named)
        if problem:
            raise InputError(f"RAY_TMPDIR={named}: {problem}; set it to a short, writable folder of your own")
        return
    # Ray's own folder, `ray` in TMPDIR, is open to all users. TMPDIR may also be a scratch folder of Slurm or macOS with a long name.
    problems = []
    for parent in dict.fromkeys((usual_temporary(), "/tmp")):
        private = private_folder(parent)
        problem = (_problem_of_privacy(private) if os.path.lexists(private) else None) or _problem(private)
        if problem is None:
            os.environ["RAY_TMPDIR"] = private
            return
        problems.append(f"{private}: {problem}")
    raise InputError(f"{'; '.join(problems)}; set RAY_TMPDIR to a short, writable folder of your own")


def _problem(folder: str) -> str | None:
    """Return the reason why Ray cannot create its sockets in a folder; None if it can."""
    if len(os.fsencode(folder)) > LONGEST_TEMPORARY:
        return f"is longer than the {LONGEST_TEMPORARY} characters that leave room for the paths of Ray's sockets"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written ({error.strerror or error})"


def _problem_of_privacy(folder: str) -> str | None:
    """Make an existing folder private to this user. Return the reason why that is impossible; None if it is done."""
    try:
        about = os.stat(folder, follow_symlinks=False)
        if not stat.S_ISDIR(about.st_mode):
            return "is not a folder"
        if about.st_uid != os.getuid():
            return f"belongs to another user (id {about.st_uid})"
        os.chmod(folder, 0o700)
    except OSError as error:
        return f"cannot be made private ({error.strerror or error})"
    return None


def _problem_of_owner(folder: str) -> str | None:
    """Return the reason not to use a folder that another user owns, who could replace Ray's sockets; None for this user and root."""
    owner = os.stat(folder).st_uid
    return None if owner in (os.getuid(), 0) else f"belongs to another user (id {owner})"


def _home_can_keep_token() -> bool:
    try:
        token = Path.home() / ".ray" / "auth_token"
        if token.exists():
            return os.access(token, os.R_OK)
        token.parent.mkdir(parents=True, exist_ok=True)  # Ray does the same
        with tempfile.TemporaryFile(dir=token.parent):
            return True
    except (OSError, RuntimeError):  # HOME is missing or not writable
        return False
