"""Optuna's own samplers, set up as Winnow uses them."""

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
    """Optuna's TPE, but it divides the trials into good and bad ones once per suggestion, and not again for every parameter.

    What it learnt from them about a parameter is kept too, for the case that its config cannot be built and it is asked again. It
    suggests the same values as Optuna's (a test) in half the time. The study must not change while the sampler is used.
    """

    def __init__(self, seed: int) -> None:
        # Optuna 5's defaults (multivariate, constant liar) were worse than random search under ASHA: docs/decisions/0014-asha-settings.md.
        super().__init__(seed=seed, multivariate=False, constant_liar=False, n_startup_trials=10)
        self._divided: tuple[list[FrozenTrial], list[FrozenTrial]] | None = None
        self._estimators: dict[tuple[tuple[str, BaseDistribution], ...], tuple[Any, Any]] = {}

    def _sample(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        parameters = tuple(search_space.items())
        if parameters not in self._estimators:
            self._estimators[parameters] = self._estimate(study, search_space)
        good, bad = self._estimators[parameters]
        points = good.sample(self._rng.rng, self._n_ei_candidates)
        best = self._compare(points, self._compute_acquisition_func(points, good, bad))
        return {name: distribution.to_external_repr(best[name]) for name, distribution in search_space.items()}

    def _estimate(self, study: Study, search_space: dict[str, BaseDistribution]) -> tuple[Any, Any]:
        """Return the densities of good and of bad trials."""
        if self._divided is None:
            self._divided = self._divide(study)
        good, bad = self._divided
        return (
            self._build_parzen_estimator(study, search_space, good, handle_below=True),
            self._build_parzen_estimator(study, search_space, bad, handle_below=False),
        )

    def _get_internal_repr(
        self, trials: list[FrozenTrial], search_space: dict[str, BaseDistribution], study: Study
    ) -> dict[str, np.ndarray]:
        """Return the values of each parameter, of the trials that have it. Optuna's own looks for running trials among them."""
        return {
            name: np.asarray([distribution.to_internal_repr(t.params[name]) for t in trials if name in t.params])
            for name, distribution in search_space.items()
        }

    @staticmethod
    def _divide(study: Study) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        best_first = sorted(trials, key=ranking(study.direction))
        num_good = min(math.ceil(0.1 * len(trials)), 25)
        good, bad = best_first[:num_good], best_first[num_good:]
        return sorted(good, key=_number), sorted(bad, key=_number)


def _number(trial: FrozenTrial) -> int:
    return trial.number


def make_tpe(context: SamplerContext) -> BaseSampler:
    return OneSplitTpe(context.own_seed)


def make_random(context: SamplerContext) -> BaseSampler:
    return RandomSampler(seed=context.own_seed)
