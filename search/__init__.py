"""Search spaces of image-classification networks and use the winners: the Python API of Winnow.

Each command of `winnow` is a function of the same name: `run(space, ...)` does what `winnow run` does and returns a `Run`.
`load_run` opens an existing run, `load_space` reads a space, `load_winner` loads a retrained network that is ready to predict.
Importing this package is quick; its names are loaded when they are used.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.search.api.common import SearchFailed, load_space
    from winnow.search.api.run import Run, load_run
    from winnow.search.api.searching import extend, plan, resume, retrain, run, search
    from winnow.search.api.using import (
        bench_recipes,
        compare,
        export,
        init,
        launch,
        predict,
        prepare,
        query,
        report,
        rerun,
        serve,
        show,
        spaces,
        train,
        verify,
    )
    from winnow.search.operations.viewing import Comparison
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
    "init",
    "launch",
    "load_run",
    "load_space",
    "load_winner",
    "plan",
    "predict",
    "prepare",
    "query",
    "report",
    "rerun",
    "resume",
    "retrain",
    "run",
    "search",
    "serve",
    "show",
    "spaces",
    "train",
    "verify",
]

# No module of this package may have the name of a function: importing the module would replace the function.
_NAMES = {
    "winnow.search.api.common": ("SearchFailed", "load_space"),
    "winnow.search.api.run": ("Run", "load_run"),
    "winnow.search.api.searching": ("extend", "plan", "resume", "retrain", "run", "search"),
    "winnow.search.api.using": (
        "bench_recipes",
        "compare",
        "export",
        "init",
        "launch",
        "predict",
        "prepare",
        "query",
        "report",
        "rerun",
        "serve",
        "show",
        "spaces",
        "train",
        "verify",
    ),
    "winnow.search.operations.viewing": ("Comparison",),
    "winnow.search.resources.plan": ("DeviceOptions",),
    "winnow.search.winners.winner": ("Winner", "load_winner"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # In a notebook the progress bar of Optuna asks for ipywidgets, which our view does not need.
        warnings.filterwarnings("ignore", message="IProgress not found")
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
