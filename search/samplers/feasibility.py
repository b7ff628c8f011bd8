"""Decides which suggestions are rejected because of the limits of a search: those known or expected to exceed one.

The size of a network follows from its config. Latency, epoch time and the size of a network from the user's own code are known only
from trials. Their logarithm is close to linear in the columns of `winnow.search.samplers.encoding`, like that of the cost of an epoch
(`winnow.search.samplers.epoch_cost`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial

from winnow.search.samplers.draft import Draft
from winnow.search.samplers.encoding import ParameterEncoding
from winnow.search.samplers.epoch_cost import RIDGE
from winnow.spaces.schema import Config, Limits
from winnow.spaces.shapes import ImageShape
from winnow.spaces.sizes import SIZES, known_excess

SIZE_FIGURES = ("num_parameters", "multiply_adds")
NUM_MEASURED = 8
"""Number of trials for which a figure must be known before it is predicted for others."""


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
        """Describe the limit that the network of a config is known to exceed; None if there is none."""
        return known_excess(self._limits, config, self._image_shape, self._num_classes)

    def is_hopeless(self, draft: Draft, family: str, trials: Sequence[FrozenTrial]) -> bool:
        """Return whether a draft is expected to exceed a limit clearly. Of a size that `exceeded` knows, nothing is expected.

        A linear model is fitted to the figures of earlier trials once `NUM_MEASURED` of them are
        known.

        Args:
            draft: The suggestion.
            family: Name of its model.
            trials: The trials of the search so far, with their figures among their attributes.
        """
        if self._limits is None:
            return False
        known = SIZE_FIGURES if family in SIZES else ()
        unknown = {figure: limit for figure, limit in self._limits.by_figure.items() if figure not in known}
        return any(_expected_beyond(draft, trials, figure, limit) for figure, limit in unknown.items())


def _expected_beyond(draft: Draft, trials: Sequence[FrozenTrial], figure: str, limit: float) -> bool:
    """Return whether the expected figure of a draft exceeds the limit by more than the error of the fit."""
    measured = [trial for trial in trials if trial.user_attrs.get(figure)]
    if len(measured) < NUM_MEASURED:
        return False
    encoding = ParameterEncoding([*measured, draft.to_trial({})])
    columns = encoding.encode(encoding.points)
    inputs = columns[:-1] - columns[:-1].mean(axis=0)
    logs = np.log([trial.user_attrs[figure] for trial in measured])
    slopes = np.linalg.solve(inputs.T @ inputs + RIDGE * np.eye(inputs.shape[1]), inputs.T @ (logs - logs.mean()))
    spread = (logs - logs.mean() - inputs @ slopes).std()
    expected = logs.mean() + (columns[-1] - columns[:-1].mean(axis=0)) @ slopes
    return bool(expected > np.log(limit) + spread)
