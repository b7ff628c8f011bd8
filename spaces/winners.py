"""Defines what a winner is, for the search, which needs enough of them, for retraining, which chooses among them, and for reports.

A winner is a config of a completed trial with an objective. It lies in the current space and is not the baseline, with which winners
are compared. With `repeats` several trials have the same config; it is ranked by the means of those that completed, since the best of
several repeats lies above the expected value. Repeats that early stopping ended are not in the means, which reports say.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from winnow.spaces.identity import identity, same_training

if TYPE_CHECKING:
    from winnow.spaces.shapes import ImageShape
    from winnow.spaces.space import Space


def baseline_config(space: Space) -> dict[str, Any] | None:
    """Return the complete config of the baseline; None if the space names none."""
    return space.config(space.baseline).model_dump(mode="json") if space.baseline else None


def may_win(config: dict[str, Any], baseline: dict[str, Any] | None, image_shape: ImageShape | None = None) -> bool:
    """Return whether a trial with this config is a winner if it completes inside the space.

    Args:
        config: The complete config.
        baseline: The complete config of the baseline; None if there is none and every config may
            win.
        image_shape: As for `identity`. Default: it is not known.
    """
    return baseline is None or not same_training(config, baseline, image_shape)


def by_config(
    configs: Sequence[dict[str, Any]], num_repeats: int, image_shape: ImageShape | None = None
) -> list[list[int]]:
    """Group trials with the same config.

    Args:
        configs: The complete config of each trial.
        num_repeats: The setting `search.repeats`. If it is 1, no two trials have the same config.
        image_shape: As for `identity`, by which the search counts the repeats of a config. Default: it is not known.

    Returns:
        The indices of the trials of each config, ascending.
    """
    if num_repeats == 1:
        return [[index] for index in range(len(configs))]
    groups: dict[str, list[int]] = defaultdict(list)
    for index, config in enumerate(configs):
        groups[identity(config, image_shape)].append(index)
    return list(groups.values())


def representative(repeats: Sequence[int], retrained: Container[int]) -> int:
    """Return which trial stands for all repeats of a config. It stays the same when a repeat with a lower number completes later.

    Args:
        repeats: Numbers of the completed trials with the config, ascending.
        retrained: Numbers of the trials that stand for their configs in earlier retrainings.

    Returns:
        The index in `repeats` of the first trial that was retrained, or 0 if none was.
    """
    return next((index for index, number in enumerate(repeats) if number in retrained), 0)


def mean_of_repeats(values: Sequence[float | None]) -> float | None:
    """Return what a config is worth whose trials have these values: their mean, or None if no value is known."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(set(known)) > 1 else next(iter(known), None)
