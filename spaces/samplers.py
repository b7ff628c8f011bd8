"""The samplers by name and what each can do: the single list from which schema, command line, search and docs take them.

A new sampler is one entry here, and a module of its own that `make` names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from winnow.spaces.errors import InputError


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler and its capabilities.

    Attributes:
        summary: One line for help texts and reference pages.
        make: `module:function` of a `winnow.search.samplers.registry.SamplerContext` that returns an Optuna sampler; imported
            when the first trial is suggested.
        pauses: Whether trials pause at every rung and its method `resume` says which of them continue. Otherwise successive halving
            stops trials at the rungs.
        reads_results: Whether later suggestions depend on earlier results.
        finite: Whether it suggests each point of a finite space once; spaces with continuous ranges are refused.
        max_trials: The number of trials that it reads from a long study; None: it reads none, or as many as there are.
    """

    summary: str
    make: str
    pauses: bool = False
    reads_results: bool = True
    finite: bool = False
    max_trials: int | None = None

    def load(self) -> Callable[[Any], Any]:
        """The function that `make` names."""
        module, function = self.make.split(":")
        make: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
        return make


SAMPLERS: dict[str, SamplerSpec] = {
    "forecast": SamplerSpec(
        "Resumes the paused trial whose forecast end is most promising; shares decisions with successive halving by its skill.",
        "winnow.search.samplers.forecast:make_sampler",
        pauses=True,
        max_trials=300,
    ),
    "tpe": SamplerSpec(
        "Tree-structured Parzen estimator (Optuna), with successive halving.",
        "winnow.search.samplers.optuna_samplers:make_tpe",
        max_trials=500,
    ),
    "gp": SamplerSpec(
        "Gaussian process over completed trials (Optuna), with successive halving.",
        "winnow.search.samplers.gp:make_sampler",
        max_trials=500,
    ),
    "random": SamplerSpec(
        "Independent random configs, with successive halving.",
        "winnow.search.samplers.optuna_samplers:make_random",
        reads_results=False,
    ),
    "qmc": SamplerSpec(
        "Quasi-random configs that cover the space evenly (scrambled Sobol sequence), with successive halving.",
        "winnow.search.samplers.qmc_and_grid:make_qmc",
        reads_results=False,
    ),
    "grid": SamplerSpec(
        "Every config of a finite space once, in random order, with successive halving.",
        "winnow.search.samplers.qmc_and_grid:make_grid",
        reads_results=False,
        finite=True,
    ),
}
DEFAULT_SAMPLER = "forecast"

if TYPE_CHECKING:
    SamplerName = str
else:
    SamplerName = Literal[tuple(SAMPLERS)]


def spec_of(name: str) -> SamplerSpec:
    """The entry of a sampler.

    Raises:
        InputError: There is no sampler of this name, as in a run of a newer version.
    """
    if name not in SAMPLERS:
        raise InputError(f"sampler: there is no {name!r}; there are {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
