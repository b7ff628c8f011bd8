"""Samplers that do not read results: the points of a low-discrepancy sequence, or all points of a grid in a seeded order.

Optuna's own samplers do not work for a space with branches. Its QMCSampler knows only the parameters of the first trial, draws the
others at random, and counts its points in the study with every draft. Its GridSampler requires a full product. Here, point number k
depends only on the space and the seed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from winnow.search.samplers.encoding import value_at
from winnow.search.samplers.registry import SamplerContext
from winnow.spaces.grid import point
from winnow.spaces.space import Space


class QmcSampler(BaseSampler):
    """Suggests Sobol points, scrambled once for the whole search (Owen, 1998; SciPy's engine).

    Every parameter that the space can have, in any branch, has its own coordinate; a config ignores the coordinates of parameters
    that it does not have. A projection of a Sobol sequence is a Sobol sequence too, so the points of a branch are spread evenly.

    Args:
        space: The space to search.
        seed: Seed of the scrambling, the same for the whole search.
        index: Index of the first point to suggest, from 0.
    """

    def __init__(self, space: Space, seed: int, index: int) -> None:
        from scipy.stats import qmc  # slow to import

        names = [parameter.study_name for parameter in space.parameters()]
        self._coordinates = {name: i for i, name in enumerate(names)}
        self._engine = qmc.Sobol(max(1, len(names)), scramble=True, rng=seed)
        if index:  # the engine cannot advance by zero points
            self._engine.fast_forward(index)
        self._point: np.ndarray = np.empty(0)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters, since `sample_independent` suggests each of them at its own coordinate.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
        """
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Advance to the next point of the sequence.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
            search_space: Not used.

        Returns:
            No values: `sample_independent` reads them from the point.
        """
        self._point = self._engine.random(1)[0]
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of a parameter at its coordinate of the current point.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
            param_name: Name of the parameter.
            param_distribution: The values that it may have.

        Raises:
            KeyError: The space has no such parameter.
        """
        if not len(self._point):  # a start point left this parameter open
            self.sample_relative(study, trial, {})
        return value_at(param_distribution, float(self._point[self._coordinates[param_name]]))


class GridSampler(BaseSampler):
    """Suggests all points of a finite space in a seeded order, each once, and then starts again from the first.

    Args:
        space: The space to search, which must be finite.
        seed: Seed of the order, the same for the whole search.
        index: Index of the first point to suggest in that order, from 0.
    """

    def __init__(self, space: Space, seed: int, index: int) -> None:
        self._space = space
        self._order = _order(int(space.size()), seed)
        self._index = index

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters, since `sample_relative` suggests whole points of the grid.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
        """
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the next point of the grid.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
            search_space: Not used.

        Returns:
            The values of the parameters that this point has, by parameter name.
        """
        values = point(self._space.root, int(self._order[self._index % len(self._order)]))
        self._index += 1
        return values

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Raise an error for a parameter that a point of the grid does not have.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
            param_name: Name of the parameter.
            param_distribution: The values that it may have; not used.

        Raises:
            KeyError: Always.
        """
        raise KeyError(f"{param_name}: not in the grid")


def make_qmc(context: SamplerContext) -> BaseSampler:
    assert context.space is not None
    return QmcSampler(context.space, context.common_seed, context.num_drafts)


def make_grid(context: SamplerContext) -> BaseSampler:
    assert context.space is not None
    return GridSampler(context.space, context.common_seed, context.num_drafts)


@lru_cache(maxsize=4)
def _order(size: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(size)
