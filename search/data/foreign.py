"""Wraps foreign readers (Pillow, numpy, Arrow): whatever they raise becomes one message that names the file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from winnow.spaces.errors import InputError

MAX_CHUNK = 2**24
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
    except Exception as error:  # each library has its own exceptions, and damaged files cause even more
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{where}: not a readable {what} ({reason})") from error


def require_file(path: Path, what: str) -> None:
    """Check that a path is not a folder or a pipe; opening a pipe would block forever.

    Args:
        path: The path. A missing file is reported when it is opened.
        what: What it should be, such as `Parquet file`.

    Raises:
        InputError: The path exists and is not a regular file.
    """
    if path.exists() and not path.is_file():
        raise InputError(
            f"{shown(path)}: not a readable {what} (it is {'a folder' if path.is_dir() else 'no regular file'})"
        )


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a regular file in chunks of at most 16 MB.

    The file is opened and examined only once, since these calls take most of the time for small files. It is opened in
    non-blocking mode, so that a pipe cannot hang.

    Raises:
        OSError: It cannot be read, or is not a regular file.
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is no regular file")
        while chunk := os.read(number, min(status.st_size + 1, MAX_CHUNK)):
            yield chunk
    finally:
        os.close(number)


def shown(path: Path | str) -> str:
    """Return a text that every terminal and file can hold: bytes that are not UTF-8 and control characters are escaped."""
    if (text := str(path)).isprintable():
        return text
    with suppress(UnicodeEncodeError):  # a lone surrogate, which is in no file name, is escaped below
        text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(num: int, one: str, many: str) -> str:
    """Return a number with the words that agree with it, such as `1 image is` or `2 images are`.

    Args:
        num: The number.
        one: The words after 1.
        many: The words after every other number.
    """
    return f"{num:,} {one if num == 1 else many}"


def named(names: Sequence[str], num: int = NUM_NAMED) -> str:
    """Return the first few names, separated by commas, and `, ...` if there are more.

    Args:
        names: The names; each is escaped with `shown`.
        num: Number of names to list. Default: 3.
    """
    return ", ".join(map(shown, names[:num])) + (", ..." if len(names) > num else "")
