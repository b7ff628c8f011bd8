"""Chooses what to retrain: the best configs of a search, and the baseline. Earlier lines of `retrain.jsonl` get their current ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from winnow.reports.reading.run import read_retrained
from winnow.reports.text.next_step import way_to_winners
from winnow.search.seeds import Stream, derive_seed
from winnow.search.settings import Settings
from winnow.search.storage.json_lines import JsonLines, json_line
from winnow.search.storage.run_folder import RunFolder, write_text
from winnow.search.study.completed import CompletedTrial, completed_trials
from winnow.search.winners.as_searched import as_searched, searched_epochs
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus
from winnow.spaces.winners import baseline_config

BASELINE = -1  # the trial number of a baseline that no trial of the search completed
MAX_SEEDS = 1000  # more than anyone retrains with
PASSING = (TrialStatus.FAILED, TrialStatus.LOST, TrialStatus.TIMED_OUT, TrialStatus.OUT_OF_MEMORY)
"""Statuses of a retraining that may end differently when it is repeated, since code, device or machine may have changed."""


@dataclass(frozen=True)
class Candidate:
    """A config to retrain.

    Attributes:
        rank: 1 is the best of the search; None is the baseline.
        trial: Number of the trial that it comes from, or `BASELINE`.
        config: The complete config. For a training on both splits it contains the decisions of the search, see `as_searched`.
        search_value: The objective in the search, the mean over repeats of the config; None if it was no trial.
        micro_batches: Number of pieces in which the search had to train each batch.
        keep_validation: Whether the validation images decide as in the search, and are not trained on.
        repeats: Numbers of all completed trials with this config, if there are several; `trial` stands for them.
    """

    rank: int | None
    trial: int
    config: dict[str, Any]
    search_value: float | None
    micro_batches: int = 1
    keep_validation: bool = False
    repeats: tuple[int, ...] = ()

    @property
    def of_repeats(self) -> dict[str, Any]:
        """What its lines in `retrain.jsonl` say of repeats in the search; empty if there are none."""
        return {"search_value": self.search_value, "repeats": list(self.repeats)} if self.repeats else {}

    @property
    def label(self) -> str:
        return "baseline" if self.rank is None else f"winner {self.rank} (trial {self.trial})"


def choose_candidates(folder: RunFolder, space: Space, settings: Settings) -> list[Candidate]:
    """Choose the best `settings.retrain.top` winners of the search or the whole Pareto front, then the baseline if the space names one.

    `winnow.spaces.winners` defines what a winner is. Lines of earlier retrainings get their current ranks.

    Args:
        folder: The run.
        space: Its current space.
        settings: Its settings.

    Raises:
        InputError: The search has no winner, or an earlier version of Winnow retrained some.
    """
    completed = completed_trials(folder, space, settings)
    keeps = settings.retrain.keep_validation
    lines = {} if keeps else searched_epochs(folder)
    winners = [
        Candidate(rank, trial.number, as_searched(trial.config, lines.get(trial.number, [])), *_rest(trial, keeps))
        for rank, trial in enumerate(completed.winners, start=1)
    ]
    if not winners:
        from winnow import reports

        raise InputError(f"{folder.path}: there is nothing to retrain. {way_to_winners(reports.read(folder.path))}")
    _check_seeds(folder, settings)
    baseline = []
    if (trial := completed.baseline) is not None:
        config = as_searched(trial.config, lines.get(trial.number, []))
        baseline = [Candidate(None, trial.number, config, *_rest(trial, keeps))]
    elif (untrained := baseline_config(space)) is not None:
        baseline = [Candidate(None, BASELINE, untrained, None, keep_validation=keeps)]
    _update_lines(folder, [*winners, *baseline])
    return [*winners[: settings.retrain.top], *baseline]


def _rest(trial: CompletedTrial, keep_validation: bool) -> tuple[float, int, bool, tuple[int, ...]]:
    return trial.value, trial.micro_batches, keep_validation, trial.repeats


def _update_lines(folder: RunFolder, now: list[Candidate]) -> None:
    """Give earlier lines their current ranks, and move those of configs that no longer compete to another file.

    Lines of trainings that failed for a reason that may be gone are moved too, so that these trainings are repeated. Lines are
    never deleted, since each completed training has looked at the test images.
    """
    places = {candidate.trial: candidate for candidate in now}
    lines = read_retrained(folder.path)[0]
    kept, gone = [], []
    for line in lines:
        candidate = places.get(line["trial"])
        same = (line["config"], line.get("keep_validation", False))
        fits = candidate is not None and (candidate.config, candidate.keep_validation) == same
        if candidate is None or not fits or line["status"] in PASSING:
            gone.append(line)
        else:
            place = {"rank": candidate.rank, "baseline": candidate.rank is None}
            kept.append({**line, **place, **candidate.of_repeats})
    if kept == lines:
        return
    aside = JsonLines(folder.retrained_earlier)
    for line in gone:
        aside.append(line)
    aside.close()
    write_text(folder.retrained, "".join(map(json_line, kept)))


def seed_of(settings: Settings, index: int) -> int:
    """Return the seed of a retraining.

    Args:
        settings: The settings of the run, with the seed of the search.
        index: Index of the seed among those of one config, from 0.
    """
    return derive_seed(Stream.RETRAINING, settings.seed, index)


def _check_seeds(folder: RunFolder, settings: Settings) -> None:
    """Raise InputError for lines of an earlier version of Winnow: its seeds differ, so they would count as additional ones."""
    unknown = {line["seed"] for line in read_retrained(folder.path)[0]}
    for index in range(MAX_SEEDS):
        if not unknown:
            return
        unknown.discard(seed_of(settings, index))
    if unknown:
        raise InputError(
            f"{folder.retrained}: an earlier version of Winnow wrote this file and derived other seeds; "
            "to retrain with this version, move it out of the run folder"
        )
