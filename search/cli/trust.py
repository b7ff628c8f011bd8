"""`--trust-code`: whether code that a space, a run or an export names may run."""

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
    help="Run code that the file or folder names by import path, although it is not of your working directory.",
)


def check_space(space: Space, trusted: bool) -> None:
    """Ask or refuse if the space names code of others; catalog spaces name none."""
    from winnow.search.operations.trust import check_space_code

    _checked(check_space_code, space, trusted)


def check_run(folder: RunFolder, trusted: bool) -> None:
    """Ask or refuse if the run names code of others."""
    from winnow.search.operations.trust import check_run_code

    _checked(check_run_code, folder, trusted)


def check_export(folder: Path, trusted: bool) -> None:
    """Ask or refuse if the exported winner names code of others."""
    from winnow.search.operations.trust import check_export_code

    _checked(check_export_code, folder, trusted)


def _checked(check: Callable[[What, bool], None], what: What, trusted: bool) -> None:
    from winnow.search.operations.trust import UntrustedCode

    try:
        check(what, trusted)
    except UntrustedCode as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UntrustedCode(f"{error}; if you trust whoever wrote it: --trust-code") from error
        click.confirm(f"{error}. Run it?", abort=True, err=True)
        check(what, True)
