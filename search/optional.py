"""Imports the packages of an extra when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from winnow.spaces.errors import InputError


def require(module: str, command: str, extra: str = "export") -> Any:
    """Import a module of an optional package.

    Args:
        module: The module to import.
        command: Command or option that needs the module, for the message.
        extra: The extra of `winnow-search` that installs the module.

    Raises:
        InputError: The package is missing; the message says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{command} needs the package {module.partition('.')[0]}, which is not installed ({error}): "
            f"pip install 'winnow-search[{extra}]'"
        ) from error
