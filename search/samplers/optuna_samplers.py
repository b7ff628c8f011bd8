"""Optuna's own samplers with the settings that Winnow uses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from winnow.search.samplers.history_window import ranking
from winnow.search.samplers.registry import SamplerContext


class OneSplitTpe(TPESampler):
    """Optuna's TPE, except that it divides the trials into good and bad ones once per suggestion instead of once per parameter.

    It also keeps the densities of each parameter for further suggestions, which are needed when a config cannot be built. It suggests
    the same values as Optuna's TPE (a test checks this) in a third of the time. The study must not change while the sampler is used.
    """

    def __init__(self, seed: int) -> None:
        # Optuna 5's defaults (multivariate, constant liar) were worse than random search under ASHA: docs/decisions/0014-asha-settings.md.
        super().__init__(seed=seed, multivariate=False, constant_liar=False, n_startup_trials=10)
        self._divided: tuple[list[dict[str, Any]], ...] | None = None
        self._estimators: dict[tuple[tuple[str, BaseDistribution], ...], tuple[Any, ...]] = {}

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        parameters = tuple(search_space.items())
        if parameters not in self._estimators:
            self._estimators[parameters] = self._estimate(study, search_space)
        good, bad = self._estimators[parameters]
        points = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(points, self._compute_acquisition_func(points, good, bad))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _estimate(self, study: Study, search_space: dict[str, BaseDistribution]) -> tuple[Any, ...]:
        """Return the densities of the good and of the bad trials, estimated from the trials that have the parameters."""
        if self._divided is None:
            self._divided = self._divide(study)
        return tuple(
            self._parzen_estimator_cls(
                {
                    name: np.asarray(
                        [distribution.to_internal_repr(params[name]) for params in trials if name in params]
                    )
                    for name, distribution in search_space.items()
                },
                search_space,
                self._parzen_estimator_parameters,
            )
            for trials in self._divided
        )

    @staticmethod
    def _divide(study: Study) -> tuple[list[dict[str, Any]], ...]:
        """Return the parameters of the good trials and those of the bad ones, each in the order of their numbers."""
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        best_first = sorted(trials, key=ranking(study.direction))
        num_good = min(math.ceil(0.1 * len(trials)), 25)
        parts = best_first[:num_good], best_first[num_good:]
        return tuple([trial.params for trial in sorted(part, key=_number)] for part in parts)


def _number(trial: FrozenTrial) -> int:
    return trial.number


def make_tpe(context: SamplerContext) -> BaseSampler:
    return OneSplitTpe(context.own_seed)


def make_random(context: SamplerContext) -> BaseSampler:
    return RandomSampler(seed=context.own_seed)
