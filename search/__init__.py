"""Searches spaces of networks and uses what was found: the Python API. Importing this costs nothing; its names load when used.

`run(space, ...)` does what `winnow run` does and gives a `Run`; `load_run` opens an earlier one; `load_winner(run)` gives a
retrained network, ready to predict.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.api import Run, SearchFailed, load_run, run
    from search.winner import Winner, load_winner

__all__ = ["Run", "SearchFailed", "Winner", "load_run", "load_winner", "run"]

_HOMES = {
    "Run": "search.api",
    "SearchFailed": "search.api",
    "Winner": "search.winner",
    "load_run": "search.api",
    "load_winner": "search.winner",
    "run": "search.api",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
