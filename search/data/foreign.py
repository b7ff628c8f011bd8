"""Wraps foreign readers (Pillow, numpy, Arrow): whatever they raise becomes one message that names the file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from winnow.spaces.errors import InputError

NUM_NAMED = 3
"""Number of damaged files that are named; all are counted."""


@contextmanager
def foreign(where: str, what: str) -> Iterator[None]:
    """Turn any exception of the library inside into an InputError.

    Args:
        where: The file (and row) as the user knows it.
        what: What it should have been, such as `image` or `Parquet file`.

    Raises:
        InputError: For everything but an InputError, which passes unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{where}: no such file") from error
    except Exception as error:  # each library has its own kinds, and damaged files bring out even more
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{where}: not a readable {what} ({reason})") from error


def require_file(path: Path, what: str) -> None:
    """Raise InputError for a folder or a pipe; opening a pipe would wait for ever. A missing file shows when it is opened."""
    if path.exists() and not path.is_file():
        raise InputError(
            f"{shown(path)}: not a readable {what} (it is {'a folder' if path.is_dir() else 'no regular file'})"
        )


def shown(path: Path | str) -> str:
    """Return a text that every terminal and file can hold: bytes that are not UTF-8 and control characters are escaped."""
    if (text := str(path)).isprintable():
        return text
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def named(names: Sequence[str], num: int = NUM_NAMED) -> str:
    """Return the first few of `names`, and `, ...` if there are more."""
    return ", ".join(map(shown, names[:num])) + (", ..." if len(names) > num else "")
