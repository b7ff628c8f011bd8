"""Keeps torch's compiler unimported in workers until something is compiled.

Every `optimizer.step` imports `torch._dynamo`, and sympy with it, to tell a compiler that is not there to look away: 3 s of CPU
in each worker, more than torch itself takes (measured, docs/decisions/0027-lean-workers.md).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


def postpone_compiler() -> None:
    """Put a stand-in where torch looks for its compiler; asked for anything that compiles, it gives way to the real one."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Postponed(NAME)


class _Postponed(ModuleType):
    """The two functions that mean nothing where nothing is compiled."""

    @staticmethod
    def disable(function: Callable[..., Any], recursive: bool = True, **options: Any) -> Callable[..., Any]:
        return function

    @staticmethod
    def graph_break(message: str = "") -> None:
        """Do nothing: there is no graph to break."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(NAME) is self:
            del sys.modules[NAME]
            importlib.import_module(NAME)  # also replaces the attribute of torch
        return getattr(sys.modules[NAME], name)
