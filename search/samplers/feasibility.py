"""Decides which suggestions are rejected because of the limits of a search: those known or expected to exceed one.

The size of a network follows from its config. Latency, epoch time and the size of a network from the user's own code are known only
from trials. Their logarithm is close to linear in the columns of `winnow.search.samplers.encoding`, like that of the cost of an epoch
(`winnow.search.samplers.epoch_cost`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial

from winnow.search.samplers.encoding import ParameterEncoding
from winnow.search.samplers.epoch_cost import RIDGE
from winnow.spaces.schema import Config, Limits
from winnow.spaces.schema.limits import LIMITED
from winnow.spaces.shapes import ImageShape
from winnow.spaces.sizes import SIZES, known_sizes
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import ProbeTrial, completions

SIZE_FIGURES = ("num_parameters", "multiply_adds")
NUM_MEASURED = 8
"""Number of trials for which a figure must be known before it is predicted for others."""
NUM_COMPLETIONS = 6
"""Number of configs by which parameters of a part of a config are judged."""
MOST_MEASURED = 500
"""Largest number of trials to which the prediction is fitted; the newest ones are used, so that a suggestion takes no longer in long searches."""


class Feasibility:
    """Judges suggestions by the limits.

    Args:
        limits: The limits; None if nothing is rejected.
        image_shape: (channels, height, width) of the images.
        num_classes: Number of classes, which decides the size of the last layer.
    """

    def __init__(self, limits: Limits | None, image_shape: ImageShape, num_classes: int) -> None:
        self._limits = limits
        self._image_shape = image_shape
        self._num_classes = num_classes

    def exceeded(self, config: Config) -> str | None:
        """Return the key of the limit that the network of a config is known to exceed; None if there is none."""
        if self._limits is None:
            return None
        return self._limits.first_exceeded(known_sizes(config, self._image_shape, self._num_classes))

    def filter(self, space: Space) -> Callable[[Mapping[str, Any]], bool] | None:
        """Return a function that tells whether any config with the given parameters may be within the limits of size.

        Parameters that are not given are completed in `NUM_COMPLETIONS` ways, always the same. If each of these configs cannot be built
        or is known to exceed a limit, the parameters are refused.

        Args:
            space: The space to which the parameters belong.

        Returns:
            The function; None if no limit is known before training.
        """
        if self._limits is None or not any(figure in self._limits.by_figure for figure in SIZE_FIGURES):
            return None
        names = {parameter.study_name for parameter in space.parameters()}

        def is_possible(trial: ProbeTrial) -> bool:
            raw = space.suggest(trial)
            return not space.infeasible(raw, self._image_shape) and self.exceeded(space.config(raw)) is None

        def allows(params: Mapping[str, Any]) -> bool:
            num = NUM_COMPLETIONS if names - params.keys() else 1
            return any(is_possible(trial) for trial in islice(completions(params, NUM_COMPLETIONS), num))

        return allows

    def expected(self, trials: Sequence[FrozenTrial]) -> ExpectedFigures:
        """Return the model of the figures that only trials show.

        Args:
            trials: The trials of the search so far, with their figures among their attributes.
        """
        return ExpectedFigures(self._limits, trials)


class ExpectedFigures:
    """A linear model of each limited figure, once `NUM_MEASURED` trials have it. It is fitted when it is first used.

    Args:
        limits: The limits; None if there are none.
        trials: The trials of the search so far, with their figures among their attributes.
    """

    def __init__(self, limits: Limits | None, trials: Sequence[FrozenTrial]) -> None:
        self._limits = limits
        self._trials = trials
        self._fits: dict[str, _Fit | None] = {}

    def exceeded(self, params: Mapping[str, Any], family: str) -> str | None:
        """Return the key of the limit that a config is expected to exceed clearly; None if there is none.

        Of a size that is known exactly, nothing is expected.

        Args:
            params: The parameters of the config, by name in the study.
            family: Name of its model.
        """
        known = SIZE_FIGURES if family in SIZES else ()
        for key, figure in LIMITED.items():
            limit = None if self._limits is None else getattr(self._limits, key)
            if limit is None or figure in known:
                continue
            if figure not in self._fits:
                self._fits[figure] = _fitted(self._trials, figure)
            fit = self._fits[figure]
            if fit is not None and fit.is_beyond(params, limit):
                return key
        return None


class _Fit:
    """The logarithm of a figure, fitted by ridge regression."""

    def __init__(self, measured: Sequence[FrozenTrial], figure: str) -> None:
        self._encoding = ParameterEncoding(measured)
        columns = self._encoding.encode(self._encoding.points)
        self._centre = columns.mean(axis=0)
        inputs = columns - self._centre
        logs = np.log([trial.user_attrs[figure] for trial in measured])
        self._mean = logs.mean()
        ridge = RIDGE * np.eye(inputs.shape[1])
        self._slopes = np.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ (logs - self._mean))
        self._spread = (logs - self._mean - inputs @ self._slopes).std()

    def is_beyond(self, params: Mapping[str, Any], limit: float) -> bool:
        """Return whether the expected figure exceeds the limit by more than the error of the fit."""
        columns = self._encoding.encode(self._encoding.points_of([params]))[0]
        return bool(self._mean + (columns - self._centre) @ self._slopes > np.log(limit) + self._spread)


def _fitted(trials: Sequence[FrozenTrial], figure: str) -> _Fit | None:
    """Return the fit of a figure; None if too few trials have it, or if they have no parameter."""
    measured = [trial for trial in trials if trial.user_attrs.get(figure)][-MOST_MEASURED:]
    has_parameter = any(not each.single() for trial in measured for each in trial.distributions.values())
    return _Fit(measured, figure) if len(measured) >= NUM_MEASURED and has_parameter else None
