"""Reserves standard output for JSON under `--json`. What a model or a library prints goes to standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import click

from winnow.search.cli.lasting_stream import lasting

_stream: IO[str] | None = None


def json_option(text: str) -> Callable[[Any], Any]:
    """Return the option `--json` of a command that may run the user's own code.

    Args:
        text: Help text of the option.
    """
    return click.option("--json", "as_json", is_flag=True, help=text, callback=_reserve)


def write_json(facts: Any) -> None:
    """Write one JSON object as a line; NaN and infinity become null, since JSON has neither."""
    from winnow.reports.values import finite_or_null

    stream = json_stream()
    stream.write(json.dumps(finite_or_null(facts), allow_nan=False) + "\n")
    stream.flush()


def json_stream() -> IO[str]:
    """Return the stream for JSON, which is the standard output with which the command began."""
    return _stream or sys.stdout


def _reserve(context: click.Context, parameter: click.Parameter, as_json: bool) -> bool:
    if as_json:
        context.with_resource(reserved_output())
    return as_json


@contextmanager
def reserved_output() -> Iterator[None]:
    """Reserve standard output for JSON in this context. All other output, including that of C libraries, goes to standard error."""
    global _stream
    before = sys.stdout
    try:
        number = before.fileno()
    except (AttributeError, OSError):  # a test or a notebook has replaced standard output
        number = None
    _stream, sys.stdout = before, sys.stderr
    if number is not None:
        before.flush()
        copy = os.dup(number)
        os.dup2(sys.stderr.fileno(), number)
        file = open(copy, "w", encoding="utf-8")  # noqa: SIM115 - it stays open for the whole command
        _stream = lasting(file, getattr(before, "lost", None))
    try:
        yield
    finally:
        if number is not None:
            sys.stderr.flush()
            os.dup2(copy, number)
            _stream.close()
        _stream, sys.stdout = None, before
