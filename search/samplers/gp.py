"""Adapts Optuna's Gaussian-process sampler to drafts.

Optuna's GPSampler writes to the trial for which it suggests values. A draft is not a trial yet (`search/samplers/draft.py`), so the
sampler would raise a KeyError as soon as it has enough trials to model. It therefore gets a copy of the study in memory, to which a
new trial is added.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from winnow.search.samplers.registry import SamplerContext

NUM_STARTUP = 10


class GpSampler(BaseSampler):
    """Draws at random until 10 trials have completed, and then models the completed trials. A suggestion takes 0.5 s of CPU time."""

    def __init__(self, seed: int) -> None:
        self._sampler = GPSampler(seed=seed, n_startup_trials=NUM_STARTUP)
        self._seed = seed
        self._study: Study | None = None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Copy the study, and return the parameters that every modelled trial has.

        Args:
            study: The study of the search; its completed and running trials are copied.
            trial: The trial to be suggested.
        """
        self._study = optuna.create_study(direction=study.direction, sampler=RandomSampler(self._seed))
        known = (TrialState.COMPLETE, TrialState.RUNNING)
        self._study.add_trials(study.get_trials(deepcopy=False, states=known))
        return self._sampler.infer_relative_search_space(self._study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest values for the parameters that every modelled trial has.

        Args:
            study: Not used, since `infer_relative_search_space`, which is called first, has copied it.
            trial: Not used, since a trial of the copy takes its place.
            search_space: The parameters to suggest, from `infer_relative_search_space`.

        Returns:
            The values by parameter name; empty while fewer than `NUM_STARTUP` trials have
            completed.
        """
        assert self._study is not None
        self._study.ask()
        return self._sampler.sample_relative(self._study, self._study.get_trials(deepcopy=False)[-1], search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a value of a parameter that `sample_relative` did not suggest.

        Args:
            study: The study of the search.
            trial: The trial to be suggested.
            param_name: Name of the parameter.
            param_distribution: The values that it may have.
        """
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)


def make_sampler(context: SamplerContext) -> BaseSampler:
    return GpSampler(context.own_seed)
