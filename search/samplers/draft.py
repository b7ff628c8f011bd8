"""Drafts: suggestions that are not trials yet.

Optuna's `ask` creates a trial before its parameters are known. A trial that turns out to be infeasible or a repeat would stay in the
study as a failure from which the samplers learn nothing, so they would suggest it again and again (measured: 72 of 96 trials,
docs/decisions/0001-suggestions-are-drafts.md). A draft gets its values from the sampler without changing the study, and becomes a
trial only if it is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState, create_trial

RANDOM = "random"
"""User attribute of trials whose config the sampler drew at random, although it could have used a model."""


class Draft:
    """A suggestion for one trial, with the `suggest_*` methods of an Optuna trial.

    Args:
        study: The study that the sampler reads; it is not changed.
        sampler: The sampler that suggests values.
        number: Number that the trial will have.
        known: Values by name in the study, which are returned unchanged. Default: the sampler suggests all values.

    Attributes:
        params: The values suggested so far, by name in the study.
        distributions: Their distributions.
    """

    def __init__(
        self, study: optuna.Study, sampler: BaseSampler, number: int, known: Mapping[str, Any] | None = None
    ) -> None:
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self._study = study
        self._sampler = sampler
        self._trial = _placeholder(number)
        self._values: dict[str, Any] = dict(known or {})
        if known is None:
            space = sampler.infer_relative_search_space(study, self._trial)
            self._values = sampler.sample_relative(study, self._trial, space)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Suggest one of several options.

        Args:
            name: Name in the study; a known value of this name is returned as it is.
            choices: The options, at least one.
        """
        return self._suggest(name, CategoricalDistribution(choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Suggest an integer.

        Args:
            name: Name in the study; a known value of this name is returned as it is.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values, at least 1.
            log: Whether values are uniform on a logarithmic scale; `step` is then 1.
        """
        return self._suggest(name, IntDistribution(low, high, log=log, step=step))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a real number.

        Args:
            name: Name in the study; a known value of this name is returned as it is.
            low: Lowest value.
            high: Highest value, included.
            step: Distance between neighbouring values. Default: any number of the range.
            log: Whether values are uniform on a logarithmic scale; `step` must then be None.
        """
        return self._suggest(name, FloatDistribution(low, high, log=log, step=step))

    def to_trial(self, user_attrs: dict[str, Any]) -> FrozenTrial:
        """Return the draft as a running trial with the given attributes and those that the sampler has set."""
        return create_trial(
            state=TrialState.RUNNING,
            params=self.params,
            distributions=self.distributions,
            user_attrs={**self._trial.user_attrs, **user_attrs},
        )

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if name in self._values:
            value = self._values[name]
        elif distribution.single():
            value = distribution.to_external_repr(_only_value(distribution))
        else:
            value = self._sampler.sample_independent(self._study, self._trial, name, distribution)
        self.params[name] = value
        self.distributions[name] = distribution
        return value


def _placeholder(number: int) -> FrozenTrial:
    """Return a stand-in for a trial that does not exist yet: samplers read its number and its start time."""
    return FrozenTrial(
        number=number,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def _only_value(distribution: BaseDistribution) -> float:
    return distribution.low if isinstance(distribution, FloatDistribution | IntDistribution) else 0
