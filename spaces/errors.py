"""Errors for bad input, with one complete message, which the command line prints before it exits with code 2."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input; the message says where, what was given and what is allowed."""


class ModelRefused(InputError):
    """Raised when a custom model raises an error while it is built; other configs of the space may be fine."""


class SpaceError(InputError):
    """Raised for a space or recipe that cannot be used; the message gives file, line and key path."""


def printable(text: str) -> str:
    """Escape the control characters of a text, except line feeds and tabs.

    The error message of a custom model may contain any of them, and a terminal would execute its escape sequences.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )
