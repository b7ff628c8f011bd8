"""The part of a long study that a sampler reads: suggestions then cost the same at 10,000 trials as at 500.

TPE sets its best trials (at most 25) against all others, of which it counts old ones less; it goes through all of them once for every
parameter. Here it gets every trial that can be among its best, and the newest of the others. Nothing that has not ended is left out.
"""

from __future__ import annotations

import math
from collections.abc import Container
from heapq import nsmallest
from typing import Any, cast

import optuna
from optuna.trial import FrozenTrial, TrialState

from winnow.spaces.samplers import spec_of

NUM_BEST = 50  # TPE's best are 25; the rest keeps the line between good and bad where it was


def recent(study: optuna.Study, sampler: str, max_trials: int | None = None, num_best: int = NUM_BEST) -> optuna.Study:
    """What the sampler of this name is to be given: `study`, or of a long one a part."""
    bound = spec_of(sampler).max_trials
    if bound is None:
        return study
    trials, max_trials = study.get_trials(deepcopy=False), max_trials or bound
    if len(trials) <= max_trials:
        return study
    return cast(optuna.Study, _Part(study, bounded(trials, study.direction, max_trials, num_best)))


class _Part:
    """Gives a sampler these trials, in the order of their numbers; in all else it is the study."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        self._study = study
        self._trials = trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._study, name)

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        """Never copies: samplers of Optuna do not change what they read."""
        return [trial for trial in self._trials if states is None or trial.state in states]

    _get_trials = get_trials  # what Optuna's own samplers call


def bounded(
    trials: list[FrozenTrial], direction: optuna.study.StudyDirection, max_trials: int, num_best: int
) -> list[FrozenTrial]:
    """At most `max_trials` that have ended, the `num_best` best as TPE ranks them and the newest others; and all that have not."""
    sign = -1 if direction == optuna.study.StudyDirection.MAXIMIZE else 1

    def rank(trial: FrozenTrial) -> tuple[float, ...]:
        """Completed trials by value, then pruned ones by how far they came and the value there."""
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            return (0, 0, sign * trial.value)
        if trial.state == TrialState.PRUNED and trial.intermediate_values:
            epoch, value = max(trial.intermediate_values.items())
            return (1, -epoch, math.inf if math.isnan(value) else sign * value)
        return (2, 0, 0)

    open_ones = [trial for trial in trials if not trial.state.is_finished()]
    ended = [trial for trial in trials if trial.state.is_finished()]
    completed = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    # To rank all of them takes another 10 ms at 5,000 trials.
    best = nsmallest(num_best, completed if len(completed) >= num_best else ended, key=rank)
    kept = {trial.number: trial for trial in (*best, *ended[-(max_trials - num_best) :], *open_ones)}
    return [kept[number] for number in sorted(kept)]
