"""Imports into a worker what every training needs, without torch's compiler.

`optimizer.step` imports `torch._dynamo`, and with it sympy, only to exclude the step from compilation, even if nothing is compiled.
That takes 3 s of CPU time in each worker, more than importing torch itself (measured, docs/decisions/0027-lean-workers.md).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NAME = "torch._dynamo"


def prepare_imports() -> None:
    """Postpone torch's compiler and import scikit-learn's metrics, in the worker that is to train.

    scikit-learn sets environment variables and filters of warnings when it is imported, so this comes before the state of
    the process is recorded (`winnow.search.training.process_state`).
    """
    _postpone_compiler()
    importlib.import_module("winnow.search.training.metrics")


def _postpone_compiler() -> None:
    """Put a stand-in where torch looks for its compiler. When something needs the compiler, the real module replaces it."""
    import torch

    if NAME not in sys.modules:
        sys.modules[NAME] = torch._dynamo = _Postponed(NAME)


class _Postponed(ModuleType):
    """A module with the two functions that have no effect if nothing is compiled."""

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
