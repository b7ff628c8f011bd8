"""Suggests configs based on earlier runs, alternating at random with another sampler.

The probability that the earlier runs suggest is their total weight (`winnow.search.samplers.memory_model`), which is 1 at the start
and falls as the trials of this search become more informative.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from winnow.search.samplers.draft import RANDOM

if TYPE_CHECKING:
    from winnow.search.samplers.memory_model import Proposals, Recollection
    from winnow.search.samplers.registry import PausingSampler
    from winnow.search.schedulers.pausing import Pausing

MEMORY = "memory"
"""User attribute of a trial that holds the weight of each earlier run, and the contribution of each to the suggestion."""


class RememberingSampler(BaseSampler):
    """A sampler for one trial that uses earlier runs.

    Args:
        inner: The sampler that suggests when the earlier runs do not, and that decides about paused trials.
        recollection: The model of the earlier runs.
        seed: Seed of the random draws.
        judged: Replaces the values of the trials by which the earlier runs are weighted. Default: their values in the study, which
            with several objectives are of one random weighting.
    """

    def __init__(
        self,
        inner: BaseSampler,
        recollection: Recollection,
        seed: int,
        judged: Callable[[int], Sequence[FrozenTrial]] | None = None,
    ) -> None:
        self._inner = inner
        self._judged = judged
        self._recollection = recollection
        self._rng = np.random.default_rng([seed, 0])
        self._proposals: Proposals | None = None
        self._left: Iterator[int] = iter(())

    def resume(
        self,
        study: Study,
        paused: Collection[int],
        rule: Pausing,
        *,
        among: Collection[int] | None = None,
        may_start: bool = True,
    ) -> int | None:
        """Let the inner sampler choose the paused trial to resume; see `PausingSampler`.

        Args:
            study: The study that the inner sampler reads.
            paused: Numbers of all paused trials.
            rule: The scheduler, which knows the rungs.
            among: Numbers of the paused trials that may be resumed. Default: all.
            may_start: Whether a new trial could be started instead.

        Returns:
            The number of the trial, or None if there is none or if a new trial should start.
        """
        inner = cast("PausingSampler", self._inner)
        return inner.resume(study, paused, rule, among=among, may_start=may_start)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the parameters that the inner sampler suggests together.

        Args:
            study: The study that the inner sampler reads.
            trial: The trial to be suggested.
        """
        return self._inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Suggest the best proposal of the earlier runs, or let the inner sampler suggest.

        Each further call returns the next best proposal; after the last one the inner sampler
        suggests.

        Args:
            study: The study of the search, whose trials decide the weights of the earlier runs.
            trial: The trial to be suggested. It gets the attribute `MEMORY`, and `RANDOM` for a
                proposal.
            search_space: The parameters that the inner sampler suggests together.

        Returns:
            The values by parameter name.
        """
        if self._proposals is None:
            sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
            trials = study.get_trials(deepcopy=False)
            self._proposals = self._recollection.propose(trials, sign, self._rng, self._judged)
            is_turn = self._rng.random() < self._proposals.weights.sum()
            self._left = iter(range(len(self._proposals.points) if is_turn else 0))
        names, proposals = self._recollection.names, self._proposals
        weights = dict(zip(names, proposals.weights.tolist(), strict=True))
        chosen = next(self._left, None)
        if chosen is None:
            values = self._inner.sample_relative(study, trial, search_space)
            trial.set_user_attr(MEMORY, {"weights": weights})
            return values
        trial.set_user_attr(RANDOM, True)  # the forecast did not choose the config, so the trial can test the forecast
        shares = dict(zip(names, proposals.shares[chosen].tolist(), strict=True))
        trial.set_user_attr(MEMORY, {"weights": weights, "shares": shares})
        return self._recollection.encoding.params(proposals.points[chosen])

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Let the inner sampler suggest a parameter that `sample_relative` left open.

        Args:
            study: The study that the inner sampler reads.
            trial: The trial to be suggested.
            param_name: Name of the parameter.
            param_distribution: The values that it may have.
        """
        return self._inner.sample_independent(study, trial, param_name, param_distribution)
