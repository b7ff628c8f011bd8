"""Errors for bad input, with one complete message, which the command line prints before it exits with code 2."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input; the message says where, what was given and what is allowed."""


class SpaceError(InputError):
    """A space or recipe that cannot be used, with file, line and key path."""
