"""Errors for bad input, with one complete message, which the command line prints before it exits with code 2."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input; the message says where, what was given and what is allowed."""


class ModelRefused(InputError):
    """Raised if a user's own model refuses a config, by raising while it is built; other configs of the space may be fine."""


class SpaceError(InputError):
    """A space or recipe that cannot be used, with file, line and key path."""


def printable(text: str) -> str:
    """The text with its control characters escaped, but for line feeds and tabs.

    An error of a user's model may hold any: an escape sequence would command the terminal that shows it.
    """
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode() for char in text
    )
