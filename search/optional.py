"""Packages that only an extra brings, imported when they are needed."""

from __future__ import annotations

import importlib
from typing import Any

from winnow.spaces.errors import InputError


def require(module: str, command: str, extra: str = "export") -> Any:
    """Import `module`; InputError says how to get it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{command} needs the package {module.partition('.')[0]}, which is not installed ({error}): "
            f"pip install 'winnow-search[{extra}]'"
        ) from error
