"""Reads the completed trials of a run, from which retraining chooses."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any

from optuna.trial import TrialState

from winnow.reports.reading.run import read_retrained
from winnow.search.settings import Settings
from winnow.search.storage.run_folder import RunFolder
from winnow.search.study.journal_file import open_study
from winnow.search.study.space_changes import History
from winnow.spaces.fronts import front
from winnow.spaces.shapes import recorded_shape
from winnow.spaces.space import Space
from winnow.spaces.winners import baseline_config, by_config, may_win, mean_of_repeats, representative


@dataclass(frozen=True)
class CompletedTrial:
    number: int
    """Number of the trial; if its config ran several times, that of the trial that stands for all."""
    config: dict[str, Any]
    value: float
    """The first objective; the mean over the repeats of the config."""
    micro_batches: int
    further: tuple[float | None, ...] = ()
    """The other objectives; means like the first one."""
    repeats: tuple[int, ...] = ()
    """Numbers of all trials with this config, ascending, if there are several."""


@dataclass(frozen=True)
class Completed:
    """The completed trials of a run that lie in its space, the best first. Repeats of a config count as one trial.

    Attributes:
        winners: All completed trials except the baseline. With several objectives, only the trials on the Pareto front: first the
            best by the first objective, then repeatedly the one that is farthest from those already listed.
        baseline: The trial that trained the baseline, if there is one.
    """

    winners: list[CompletedTrial]
    baseline: CompletedTrial | None


def completed_trials(folder: RunFolder, space: Space, settings: Settings) -> Completed:
    """Read the completed trials of a run. The caller must hold the lock of the run.

    Args:
        folder: The run.
        space: Its current space.
        settings: Its settings.
    """
    _, _, study = open_study(folder, settings.direction)
    recorded = folder.read_study()
    history, baseline = History(folder, space, recorded), baseline_config(space)
    trials = study.get_trials(deepcopy=False)
    completed = [
        CompletedTrial(
            trial.number,
            trial.user_attrs["config"],
            trial.value,
            trial.user_attrs.get("micro_batches", 1),
            tuple(map(trial.user_attrs.get, settings.attributes(max(trial.intermediate_values, default=0)))),
        )
        for trial in trials
        if trial.state == TrialState.COMPLETE and trial.value is not None and history.is_inside(trial)
    ]
    shape = recorded_shape(recorded)
    groups = by_config([trial.config for trial in completed], settings.repeats, shape)
    retrained = {line["trial"] for line in read_retrained(folder.path)[0]}
    completed = [_as_one([completed[index] for index in group], retrained) for group in groups]
    sign = -1 if settings.direction == "maximize" else 1
    completed.sort(key=lambda trial: (sign * trial.value, trial.number))
    winners = [trial for trial in completed if may_win(trial.config, baseline, shape)]
    if settings.further:
        values = [(trial.value, *trial.further) for trial in winners]
        winners = [winners[index] for index in front(values, settings.ranked_by)]
    return Completed(
        winners=winners,
        baseline=next((trial for trial in completed if not may_win(trial.config, baseline, shape)), None),
    )


def _as_one(repeats: Sequence[CompletedTrial], retrained: Container[int]) -> CompletedTrial:
    """Return the trial that stands for all repeats of its config, with their means."""
    numbers = tuple(trial.number for trial in repeats)
    one = repeats[representative(numbers, retrained)]
    if len(repeats) == 1:
        return one
    value = mean_of_repeats([trial.value for trial in repeats])
    assert value is not None  # completed trials have one
    further = tuple(mean_of_repeats(each) for each in zip(*(trial.further for trial in repeats), strict=True))
    return replace(one, value=value, further=further, repeats=numbers)
