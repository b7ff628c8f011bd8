"""Implements `--trust-code`, which decides whether code that a space, a run or an export names may run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from winnow.search.storage.run_folder import RunFolder
    from winnow.spaces.space import Space

What = TypeVar("What")

trust_option = click.option(
    "--trust-code",
    is_flag=True,
    envvar="WINNOW_TRUST_CODE",
    help="Run code that the file or folder names by import path, even from outside the working directory.",
)


def check_space(space: Space, trusted: bool) -> None:
    """Check that the code that a space names may run. Spaces of the catalog name none.

    Args:
        space: The space.
        trusted: Whether `--trust-code` was given. Without it, the user is asked in a terminal.

    Raises:
        UntrustedCode: The code is not trusted, and there is no terminal to ask in.
        Abort: The user refused.
    """
    from winnow.search.operations.trust import check_space_code

    _checked(check_space_code, space, trusted)


def check_run(folder: RunFolder, trusted: bool) -> None:
    """Check that the code that a run names may run.

    Args:
        folder: The run.
        trusted: Whether `--trust-code` was given. Without it, the user is asked in a terminal.

    Raises:
        UntrustedCode: The code is not trusted, and there is no terminal to ask in.
        Abort: The user refused.
    """
    from winnow.search.operations.trust import check_run_code

    _checked(check_run_code, folder, trusted)


def check_export(folder: Path, trusted: bool) -> None:
    """Check that the code that an exported winner names may run.

    Args:
        folder: Folder that `winnow export` wrote.
        trusted: Whether `--trust-code` was given. Without it, the user is asked in a terminal.

    Raises:
        UntrustedCode: The code is not trusted, and there is no terminal to ask in.
        Abort: The user refused.
    """
    from winnow.search.operations.trust import check_export_code

    _checked(check_export_code, folder, trusted)


def _checked(check: Callable[[What, bool], None], what: What, trusted: bool) -> None:
    from winnow.search.operations.trust import UntrustedCode
    from winnow.spaces.errors import printable

    try:
        check(what, trusted)
    except UntrustedCode as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UntrustedCode(f"{error}; if you trust its author, add --trust-code") from error
        click.confirm(f"{printable(str(error))}. Run it?", abort=True, err=True)
        check(what, True)
