"""Suggests configs because of earlier runs, in turns with another sampler.

The share of the earlier runs is their weight (`winnow.search.samplers.memory_model`), which is all of it at the start and falls as the
trials of this search tell more; they stop when they have nothing more to propose.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from winnow.search.samplers.draft import RANDOM

if TYPE_CHECKING:
    from winnow.search.samplers.memory_model import Recollection
    from winnow.search.samplers.registry import PausingSampler
    from winnow.search.schedulers.pausing import Pausing

MEMORY = "memory"
"""The user attribute of a trial that tells how much each earlier run weighed, and what the suggestion owes to it."""

Array = np.ndarray


class RememberingSampler(BaseSampler):
    """Serves one moment of a search.

    Args:
        inner: The sampler that suggests when the earlier runs do not, and decides about paused trials.
        recollection: The earlier runs.
        seed: Seed of the draws of this moment.
    """

    def __init__(self, inner: BaseSampler, recollection: Recollection, seed: int) -> None:
        self._inner = inner
        self._recollection = recollection
        self._names = recollection.names
        self._rng = np.random.default_rng([seed, 0])
        self._turn: _Turn | None = None

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """The paused trial that the inner sampler resumes; see `PausingSampler`."""
        inner = cast("PausingSampler", self._inner)
        return inner.resume(study, paused, rule, among=among, may_start=may_start)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The values that the earlier runs propose, or those of the inner sampler. Asked again, the next best ones."""
        if self._turn is None:
            self._turn = _Turn(self._recollection, study, self._rng)
        proposal = self._turn.next()
        weights = dict(zip(self._names, self._turn.weights.tolist(), strict=True))
        if proposal is None:
            values = self._inner.sample_relative(study, trial, search_space)
            trial.set_user_attr(MEMORY, {"weights": weights})
            return values
        values, owed = proposal
        trial.set_user_attr(RANDOM, True)  # a forecast of this search did not choose it, so it may test that forecast
        trial.set_user_attr(MEMORY, {"weights": weights, "owed": dict(zip(self._names, owed.tolist(), strict=True))})
        return values

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)


class _Turn:
    """The proposals of the earlier runs in one moment of a search, the best first; none if it is the turn of the inner sampler."""

    def __init__(self, recollection: Recollection, study: Study, rng: np.random.Generator) -> None:
        from winnow.search.samplers.memory_model import LEAST_GAIN

        trials = study.get_trials(deepcopy=False)
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        self._features = recollection.features
        self._candidates = recollection.candidates
        self.weights = recollection.weights(trials, sign, rng)
        self._gains = recollection.gains(trials, self.weights)
        total = self._gains.sum(axis=0)
        is_turn = rng.random() < self.weights.sum()
        order = np.argsort(-total, kind="stable") if is_turn else np.array([], int)
        self._order = iter(order[total[order] > LEAST_GAIN * self.weights.sum()].tolist())

    def next(self) -> tuple[dict[str, Any], Array] | None:
        """The values of the next proposal, and the share of each run in its gain; None if there is none."""
        chosen = next(self._order, None)
        if chosen is None:
            return None
        gains = self._gains[:, chosen]
        return self._features.params(self._candidates[chosen]), gains / gains.sum()
