"""Selects the part of a long study that a sampler reads, so that a suggestion takes as long after 10,000 trials as after 500.

TPE compares its best trials (at most 25) with all others, of which old ones count less, and goes through all trials once per
parameter. The selected part contains every trial that can be among the best, the newest of the others, and all open trials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import nsmallest

import optuna
from optuna.trial import FrozenTrial, TrialState

from winnow.search.samplers.study_view import view_of
from winnow.spaces.samplers import spec_of

NUM_BEST = 50  # TPE uses the best 25; the others keep the boundary between good and bad trials unchanged


def recent(study: optuna.Study, sampler: str, max_trials: int | None = None, num_best: int = NUM_BEST) -> optuna.Study:
    """Return the study that a sampler reads.

    Args:
        study: The study of the search.
        sampler: Name of the sampler, which decides how many trials it reads.
        max_trials: Largest number of ended trials, for tests and benchmarks. Default: the sampler's own.
        num_best: Number of these trials that are the best ones; the others are the newest. Default: 50.

    Returns:
        `study` itself, or a view of a part of it if it has more trials.
    """
    bound = spec_of(sampler).max_trials
    if bound is None:
        return study
    trials, max_trials = study.get_trials(deepcopy=False), max_trials or bound
    if len(trials) <= max_trials:
        return study
    return view_of(bounded(trials, study.direction, max_trials, num_best), study.direction)


def bounded(
    trials: list[FrozenTrial], direction: optuna.study.StudyDirection, max_trials: int, num_best: int
) -> list[FrozenTrial]:
    """Choose the trials of a long study that a sampler reads: all open trials, and some of the ended ones.

    Args:
        trials: All trials of the study.
        direction: Whether higher or lower values are better.
        max_trials: Largest number of ended trials to choose; must be above `num_best`.
        num_best: Number of these trials that are the best, as TPE ranks them; the others are the newest.

    Returns:
        The chosen trials in the order of their numbers.
    """
    rank = ranking(direction)
    # Calling `is_finished()` would take ten times as long, which matters with 10,000 trials.
    open_ones = [trial for trial in trials if trial.state == TrialState.RUNNING]
    ended = [trial for trial in trials if trial.state != TrialState.RUNNING]
    completed = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    # Ranking all ended trials would take another 10 ms with 5,000 trials.
    best = nsmallest(num_best, completed if len(completed) >= num_best else ended, key=rank)
    kept = {trial.number: trial for trial in (*best, *ended[-(max_trials - num_best) :], *open_ones)}
    return [kept[number] for number in sorted(kept)]


def ranking(direction: optuna.study.StudyDirection) -> Callable[[FrozenTrial], tuple[float, ...]]:
    """Return the sort key by which TPE ranks ended trials: first completed ones by value, then pruned ones by last epoch and value."""
    sign = -1 if direction == optuna.study.StudyDirection.MAXIMIZE else 1

    def rank(trial: FrozenTrial) -> tuple[float, ...]:
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            return (0, 0, sign * trial.value)
        if trial.state == TrialState.PRUNED and trial.intermediate_values:
            epoch, value = max(trial.intermediate_values.items())
            return (1, -epoch, math.inf if math.isnan(value) else sign * value)
        return (2, 0, 0)

    return rank
