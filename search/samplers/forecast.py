"""A sampler that forecasts where every training would end, and spends each worker's time where that pays most.

One Gaussian process over (hyper-parameters, logarithm of the epoch) is fitted to the objective at the rungs of all trials, less what
epochs alone bring: a trial after its first rung is then no worse than one at its end for having been trained less.
Whenever a worker is free, the config with the highest expected improvement at the last epoch, divided by the epochs that are still to
be trained, is chosen, be it a paused trial (`resume`) or a new one (`sample_relative`); it trains up to its next rung and is paused
there. Where the search has a time budget, an epoch counts by what it costs (`winnow.search.samplers.epoch_cost`). The first trials are random, and
promoted as asynchronous successive halving does; configs to start from are trained to their end (`winnow.search.schedulers.pausing`).
After Swersky et al., "Freeze-Thaw Bayesian Optimization" (2014), and Wistuba et al., "Supervising the Multi-Fidelity Race
of Hyperparameter Configurations" (2022), with a plain product kernel; improvement by cost after Snoek et al. (2012).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from winnow.search.samplers.encoding import Features
from winnow.search.samplers.registry import SamplerContext
from winnow.search.schedulers.pausing import Pausing

if TYPE_CHECKING:
    from winnow.search.samplers.forecast_model import Forecast

NUM_FIRST_TRIALS = 8  # at random

Array = np.ndarray


class ForecastSampler(BaseSampler):
    """`rungs` are the epochs at which trials are compared, the last epoch of a training at the end; `weigh_cost`: a cheap epoch
    counts less than a dear one.

    A sampler serves one moment: the study must not change in between calls.
    """

    def __init__(self, seed: int, rungs: Sequence[int], weigh_cost: bool = False) -> None:
        self._rng = np.random.default_rng(seed)
        self._rungs = list(rungs)
        self._weigh_cost = weigh_cost
        self._paused: frozenset[int] = frozenset()
        self._forecast: Forecast | None = None
        self._best_new: tuple[Array, float] | None = None

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """The paused trial that promises most, None if there is none or a new one promises more.

        `paused` are all that are paused, `among` those that may be resumed (default: all). While there is little to forecast
        from, `rule` says who goes on. Without `may_start` no new one is thought of. Call it before `sample_relative`, which otherwise
        takes the paused trials for running ones.
        """
        self._paused = frozenset(paused)
        candidates = self._paused if among is None else frozenset(among)
        trials = study.get_trials(deepcopy=False)
        if not candidates or not any(trial.intermediate_values for trial in trials):
            return None
        if may_start and len(trials) < NUM_FIRST_TRIALS:
            return rule.promoted(candidates)
        forecast = self._forecast_of(study, trials)
        if not may_start:
            return forecast.best_paused(candidates)[0]
        if self._best_new is None:
            self._best_new = self._look_for_new(forecast)
        number, score = forecast.best_paused(candidates)
        return number if score >= self._best_new[1] else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for all parameters that trials have had so far, whichever of them the new trial will ask for."""
        trials = study.get_trials(deepcopy=False)
        if len(trials) < NUM_FIRST_TRIALS or not any(t.intermediate_values for t in trials):
            return {}  # drawn at random: `sample_independent`
        forecast = self._forecast_of(study, trials)
        point = (self._best_new or self._look_for_new(forecast))[0]
        self._best_new = None  # asked again, as after a repeated config, another one is looked for
        return forecast.features.params(point)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return Features.draw(param_distribution, self._rng)

    def _forecast_of(self, study: Study, trials: Sequence[FrozenTrial]) -> Forecast:
        from winnow.search.samplers.forecast_model import BLAS, Forecast

        if self._forecast is None or len(self._forecast.trials) != len(trials):
            sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
            with BLAS.limit(limits=1, user_api="blas"):
                self._forecast = Forecast(trials, self._paused, sign, self._rungs, self._weigh_cost, self._rng)
        return self._forecast

    def _look_for_new(self, forecast: Forecast) -> tuple[Array, float]:
        from winnow.search.samplers.forecast_model import BLAS

        with BLAS.limit(limits=1, user_api="blas"):
            return forecast.best_new(self._rng)


def make_sampler(context: SamplerContext) -> BaseSampler:
    return ForecastSampler(context.own_seed, context.rungs, context.weigh_cost)
