"""What a user did wrong, in one complete message; the command line prints it and exits with 2."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input: the message says where, what was given and what is allowed."""


class SpaceError(InputError):
    """A space or recipe that cannot be used, with file, line and key path."""
