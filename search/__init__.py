"""Searches spaces of networks and uses what was found: the Python API. Importing this costs nothing; its names load when used.

Each command of `winnow` is a function of the same name: `run(space, ...)` does what `winnow run` does and gives a `Run`.
`load_run` opens an earlier one, `load_space` a space, `load_winner` a retrained network, ready to predict.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.search.api.run import Run, load_run
    from winnow.search.api.searching import SearchFailed, extend, load_space, report, resume, retrain, run, search
    from winnow.search.api.using import (
        Comparison,
        bench_recipes,
        compare,
        export,
        plan,
        predict,
        prepare,
        rerun,
        show,
        spaces,
        train,
    )
    from winnow.search.resources.plan import DeviceOptions
    from winnow.search.winners.winner import Winner, load_winner

__all__ = [
    "Comparison",
    "DeviceOptions",
    "Run",
    "SearchFailed",
    "Winner",
    "bench_recipes",
    "compare",
    "export",
    "extend",
    "load_run",
    "load_space",
    "load_winner",
    "plan",
    "predict",
    "prepare",
    "report",
    "rerun",
    "resume",
    "retrain",
    "run",
    "search",
    "show",
    "spaces",
    "train",
]

# No module of this package may bear the name of a function: its import would take the function's place.
_NAMES = {
    "winnow.search.api.searching": (
        "SearchFailed",
        "extend",
        "load_space",
        "report",
        "resume",
        "retrain",
        "run",
        "search",
    ),
    "winnow.search.api.run": ("Run", "load_run"),
    "winnow.search.resources.plan": ("DeviceOptions",),
    "winnow.search.api.using": (
        "Comparison",
        "bench_recipes",
        "compare",
        "export",
        "plan",
        "predict",
        "prepare",
        "rerun",
        "show",
        "spaces",
        "train",
    ),
    "winnow.search.winners.winner": ("Winner", "load_winner"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # In a notebook Optuna's progress bar asks for ipywidgets, which our view does not need.
        warnings.filterwarnings("ignore", message="IProgress not found")
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
