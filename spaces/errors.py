"""Defines the errors for bad input. They have one complete message, which the command line prints before it exits with code 2."""

from __future__ import annotations


class InputError(ValueError):
    """Raised for bad input. The message says where it is, what was given and what is allowed."""


class ModelRefused(InputError):
    """Raised when a custom model raises an error while it is built; other configs of the space may be fine."""


class SpaceError(InputError):
    """Raised for a space or recipe that cannot be used. The message gives the file, the line and the key path."""


def printable(text: str) -> str:
    """Escape the control characters of a text, except line feeds and tabs.

    The error message of a custom model may contain any of them, and a terminal would execute its escape sequences.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )
