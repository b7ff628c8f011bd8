"""Creates a study from chosen trials for a sampler to read, such as a part of a long study or trials of other spaces.

Optuna's samplers read a study only through its storage (`get_all_trials`), so the view is an ordinary study over a storage that
returns the chosen trials with their own numbers. Nothing is copied.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState


def view_of(trials: Sequence[FrozenTrial], direction: StudyDirection) -> optuna.Study:
    """Return a read-only study with these trials, in this order.

    Args:
        trials: The trials that the sampler reads; their numbers may have gaps and start anywhere.
        direction: The direction of the real study.
    """
    return optuna.create_study(storage=_ChosenTrials(trials), direction=direction)


class _ChosenTrials(InMemoryStorage):
    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._chosen = list(trials)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = [trial for trial in self._chosen if states is None or trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials
