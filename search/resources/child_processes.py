"""The processes that a process started, found by name."""

from __future__ import annotations

from collections.abc import Container, Iterator
from contextlib import suppress

import psutil


def child_processes(names: Container[str], parent: int | None = None, recursive: bool = False) -> list[psutil.Process]:
    """Return the living child processes with one of the names. A child that ends meanwhile is left out.

    Args:
        names: Names of programs, such as `raylet`; Linux gives the first 15 characters.
        parent: Number of the process that started them. Default: this one.
        recursive: Whether children of children count too. Default: no.
    """
    return list(_named(psutil.Process(parent).children(recursive), names))


def _named(processes: list[psutil.Process], names: Container[str]) -> Iterator[psutil.Process]:
    for process in processes:
        with suppress(psutil.Error):  # `name` fails once the process has ended
            if process.name() in names:
                yield process
