"""The default sampler, `forecast`. It predicts the result of every training, and follows successive halving if it cannot predict well.

1. A Gaussian process over (hyper-parameters, logarithm of the epoch) forecasts the final value of every training. A free worker gets
   the config, paused or new, with the highest expected improvement per epoch that it still needs.
2. Other free workers get the config that asynchronous successive halving would promote among randomly drawn ones, or a new random one.
   The share of the forecast's decisions grows with its skill: the rank correlation between its forecasts and the results of random
   trials that it has not seen.
3. Trials pause only at reliable rungs, those whose order agrees with the order at the next rung.

If hyper-parameters predict results, the search is therefore Bayesian optimization. Otherwise it is successive halving over random
configs, whose rungs do not mistake noise at the level of chance for a signal. In a search with a time budget, epochs are weighted by
their cost (`winnow.search.samplers.epoch_cost`).

After Swersky et al., "Freeze-Thaw Bayesian Optimization" (2014), Wistuba et al., "Supervising the Multi-Fidelity Race of
Hyperparameter Configurations" (2022), and Snoek et al. (2012) for improvement per cost.
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

from winnow.search.samplers.draft import RANDOM
from winnow.search.samplers.encoding import ParameterEncoding, any_open
from winnow.search.samplers.registry import SamplerContext
from winnow.search.schedulers.pausing import Pausing

if TYPE_CHECKING:
    from winnow.search.samplers.forecast_model import Forecast

NUM_FIRST_TRIALS = 8  # these are drawn at random
SKILLS = (0.3, 0.7)
"""The skills between which the share of the forecast grows from the smallest to the largest."""
SHARES = (0.05, 0.95)
"""The smallest and the largest share of decisions that the forecast makes."""

Array = np.ndarray


class ForecastSampler(BaseSampler):
    """A sampler for one state of a study, which must not change between calls.

    Args:
        seed: Seed of the random draws, which also depend on the state of the study.
        rungs: The epochs at which trials are compared, ascending, and the last epoch of a training.
        weigh_cost: Whether epochs are weighted by their cost. Default: all epochs count the same.
    """

    def __init__(self, seed: int, rungs: Sequence[int], weigh_cost: bool = False) -> None:
        self._seed = seed
        self._rng = np.random.default_rng(seed)
        self._rungs = list(rungs)
        self._weigh_cost = weigh_cost
        self._paused: frozenset[int] = frozenset()
        self._forecast: Forecast | None = None
        self._best_new: tuple[Array, float] | None = None
        self._halves: bool | None = None

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """Choose the paused trial to resume. Must be called before `sample_relative`, which would otherwise treat paused trials as running.

        Args:
            study: The study of the search.
            paused: The numbers of all paused trials.
            rule: The scheduler, which knows the rungs and which trial successive halving would promote.
            among: The trials that may be resumed. Default: all paused trials.
            may_start: Whether a new trial may start instead. Otherwise the most promising trial is resumed in any case.

        Returns:
            The number of the trial, or None if there is none or if a new trial should start.
        """
        self._paused = frozenset(paused)
        self._rungs = sorted({*self._rungs, *rule.rungs})
        candidates = self._paused if among is None else frozenset(among)
        trials = study.get_trials(deepcopy=False)
        if not candidates or not self._any_at_rung(trials):
            return None
        if may_start and self._by_halving(study, trials):
            drawn = [trial.number for trial in trials if trial.user_attrs.get(RANDOM)]
            return rule.promoted(candidates, drawn or None)
        if not any_open(trials):  # repeats of a single config: its trials differ only in what they have reached
            shares = rule.shares_better(candidates)
            return min(shares, key=lambda number: (shares[number], number))
        forecast = self._forecast_of(study, trials)
        if not may_start:
            return forecast.best_paused(candidates)[0]
        if self._best_new is None:
            self._best_new = self._look_for_new(forecast)
        number, score = forecast.best_paused(candidates)
        return number if score >= self._best_new[1] else None

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return no parameters: `sample_relative` chooses them itself.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
        """
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest values for all parameters that any trial has had so far.

        Args:
            study: The study of the search.
            trial: The trial to be suggested. It gets the attribute `RANDOM` if its config is drawn
                at random.
            search_space: Not used.

        Returns:
            The values by parameter name. Empty if the config is drawn at random, by
            `sample_independent`.
        """
        trials = study.get_trials(deepcopy=False)
        if self._by_halving(study, trials):
            trial.set_user_attr(RANDOM, True)
            return {}
        forecast = self._forecast_of(study, trials)
        point = (self._best_new or self._look_for_new(forecast))[0]
        self._best_new = None  # a further call, for example after a repeated config, looks for another point
        return forecast.encoding.params(point)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw a random value of a parameter that `sample_relative` left open.

        Args:
            study: The study of the search; not used.
            trial: The trial to be suggested; not used.
            param_name: Name of the parameter; not used.
            param_distribution: The values that it may have.
        """
        return ParameterEncoding.draw(param_distribution, self._rng)

    def _by_halving(self, study: Study, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether successive halving decides this time.

        The decision is random. The skill of the forecast determines the probability.
        """
        if len(trials) < NUM_FIRST_TRIALS or not self._any_at_rung(trials) or not any_open(trials):
            return True
        if self._halves is None:
            # The seed changes only with the next new trial. Without the epochs, every decision until then would be the same.
            num_epochs = sum(len(trial.intermediate_values) for trial in trials)
            self._rng = np.random.default_rng([self._seed, num_epochs])
            low, high = SKILLS
            skill = self._forecast_of(study, trials).skill
            share = min(max((skill - low) / (high - low), SHARES[0]), SHARES[1])
            self._halves = bool(self._rng.random() >= share)
        return self._halves

    def _any_at_rung(self, trials: Sequence[FrozenTrial]) -> bool:
        return any(rung in trial.intermediate_values for trial in trials for rung in self._rungs)

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
    """Return a sampler for the current state of the study."""
    return ForecastSampler(context.own_seed, context.rungs, context.weigh_cost)
