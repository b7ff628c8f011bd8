"""Registers the samplers and their capabilities, for the schema, the command line, the search and the docs.

To add a sampler, add an entry here and a module that `make` names.
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
        make: `module:function` that takes a `winnow.search.samplers.registry.SamplerContext` and returns an Optuna sampler. It is
            imported when the first trial is suggested.
        pauses: Whether trials pause at every rung, and its method `resume` decides which of them continue. Otherwise successive
            halving stops trials at the rungs.
        reads_results: Whether later suggestions depend on earlier results.
        finite: Whether it suggests each point of a finite space once; spaces with continuous ranges are rejected.
        max_trials: Largest number of trials that it reads from a study; None if it reads all of them, or none.
    """

    summary: str
    make: str
    pauses: bool = False
    reads_results: bool = True
    finite: bool = False
    max_trials: int | None = None

    def load(self) -> Callable[[Any], Any]:
        """Return the function that `make` names."""
        module, function = self.make.split(":")
        make: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
        return make


SAMPLERS: dict[str, SamplerSpec] = {
    "forecast": SamplerSpec(
        "Resumes the paused trial with the most promising forecast; successive halving decides more often while forecasts are poor.",
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
    """Return the entry of a sampler.

    Raises:
        InputError: There is no sampler of this name, for example because a newer version wrote the run.
    """
    if name not in SAMPLERS:
        raise InputError(f"sampler: unknown sampler {name!r}; allowed: {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
