"""Reads the trials of `study.journal` without a lock, without writing to it and without Optuna.

Optuna's own replay parses every distribution of every parameter of every trial, and copies a trial at each of its entries. This
reader takes a third to a half of the time; tests check that its result equals Optuna's. The meaning of each entry is defined in
`optuna/storages/journal/_storage.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import Any

from winnow.reports.reading.files import content_of, is_present
from winnow.reports.reading.json_lines import parsed
from winnow.spaces.errors import InputError

STUDY_NAME = "winnow"

Entry = dict[str, Any]


class State(IntEnum):
    """Optuna's `TrialState`: the same names and numbers."""

    RUNNING, COMPLETE, PRUNED, FAIL, WAITING = range(5)

    def is_finished(self) -> bool:
        return self not in (State.RUNNING, State.WAITING)


@dataclass(slots=True)
class Trial:
    """A trial with the fields of Optuna's `FrozenTrial`, except that distributions are JSON and times are in UTC."""

    number: int
    state: State
    values: list[float] | None
    params: dict[str, Any]
    distributions: dict[str, str]
    user_attrs: dict[str, Any]
    intermediate_values: dict[int, float]
    datetime_start: datetime | None
    datetime_complete: datetime | None

    @property
    def value(self) -> float | None:
        return self.values[0] if self.values else None


def read_trials(path: Path) -> tuple[list[Trial], list[str]]:
    """Read the trials of a journal.

    Args:
        path: The journal file. A missing file has no trials.

    Returns:
        The trials in the order of their numbers, without those that still wait in the queue, and notes on what could not be read.

    Raises:
        InputError: The file cannot be read, an entry is damaged, or it has an operation code that this version of Winnow does not know.
    """
    if not is_present(path):
        return [], [f"{path.name} is missing: there are no trials to report"]
    lines = content_of(path).splitlines(keepends=True)
    replay = _Replay()
    notes = []
    for number, entry in enumerate(parsed(lines), start=1):
        if not (isinstance(entry, dict) and "op_code" in entry and lines[number - 1].endswith(b"\n")):
            # Later entries refer to trials by their count, so they cannot be used.
            rest = len(lines) - number
            torn = f"the last line of {path.name} is incomplete and was left out"
            damaged = f"{path.name} is damaged at line {number}: the {rest} lines after it were left out"
            notes.append(damaged if rest else torn)
            break
        try:
            if is_known := entry["op_code"] in _KNOWN:
                replay.apply(entry)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path}:{number}: damaged: not an entry that Optuna writes ({type(error).__name__}: {error})"
            ) from error
        if not is_known:
            raise InputError(
                f"{path}:{number}: unknown operation code {entry['op_code']!r}; this Winnow knows 0 to {max(_KNOWN)}. "
                "The journal was written by a newer Optuna; use the Optuna version in the run's study.yaml"
            )
    trials = replay.trials_of(STUDY_NAME)
    if trials is None:
        return [], [*notes, f"{path.name} contains no study named {STUDY_NAME} yet"]
    # A trial that waits in the queue has no config yet.
    return [trial for trial in trials if trial.state != State.WAITING], notes


@dataclass
class _Replay:
    """The studies and trials after the entries applied so far."""

    names: dict[int, str] = field(default_factory=dict)
    """Names of the studies that were not deleted, by study id."""
    num_studies: int = 0
    of_study: dict[int, list[Trial]] = field(default_factory=dict)
    """Trials of each study, by study id."""
    trials: list[Trial] = field(default_factory=list)
    """The trials of all studies; the index is the trial id."""
    study_of: list[int] = field(default_factory=list)
    """The study id of each trial; the index is the trial id."""

    def trials_of(self, name: str) -> list[Trial] | None:
        return next((self.of_study[study] for study, known in self.names.items() if known == name), None)

    def apply(self, entry: Entry) -> None:
        """Apply one entry. Entries about the attributes of a study and about system attributes change nothing here."""
        if (apply := _APPLY.get(entry["op_code"])) is not None:
            apply(self, entry)
        elif (change := _CHANGE.get(entry["op_code"])) is not None and entry["trial_id"] < len(self.trials):
            trial = self.trials[entry["trial_id"]]
            if not trial.state.is_finished():
                change(trial, entry)

    def create_study(self, entry: Entry) -> None:
        if entry["study_name"] not in self.names.values():
            self.names[self.num_studies] = entry["study_name"]
            self.of_study[self.num_studies] = []
            self.num_studies += 1

    def delete_study(self, entry: Entry) -> None:
        self.names.pop(entry["study_id"], None)

    def create_trial(self, entry: Entry) -> None:
        study = entry["study_id"]
        if study not in self.names:
            return
        distributions = {name: sys.intern(text) for name, text in entry.get("distributions", {}).items()}
        value = entry.get("value")
        trial = Trial(
            number=len(self.of_study[study]),
            state=State(entry.get("state", State.RUNNING)),
            values=entry.get("values") if value is None else [value],
            params={name: _external(distributions[name])(value) for name, value in entry.get("params", {}).items()},
            distributions=distributions,
            user_attrs=entry.get("user_attrs", {}),
            intermediate_values={int(step): value for step, value in entry.get("intermediate_values", {}).items()},
            datetime_start=_time(entry["datetime_start"]),
            datetime_complete=_time(entry.get("datetime_complete")),
        )
        self.of_study[study].append(trial)
        self.trials.append(trial)
        self.study_of.append(study)

    def set_param(self, entry: Entry) -> None:
        """Set one parameter of a trial. Winnow creates trials with all their parameters; other writers may not."""
        if entry["trial_id"] >= len(self.trials) or self.trials[entry["trial_id"]].state.is_finished():
            return
        name, distribution = entry["param_name"], entry["distribution"]
        siblings = self.of_study[self.study_of[entry["trial_id"]]]
        known = next((trial.distributions[name] for trial in siblings if name in trial.params), distribution)
        if _compatible(known, distribution):
            trial = self.trials[entry["trial_id"]]
            trial.params[name] = _external(distribution)(entry["param_value_internal"])
            trial.distributions[name] = distribution


def _set_state(trial: Trial, entry: Entry) -> None:
    state = State(entry["state"])
    if state == trial.state == State.RUNNING:
        return
    trial.state = state
    if state == State.RUNNING:
        trial.datetime_start = _time(entry["datetime_start"])
    if state.is_finished():
        trial.datetime_complete = _time(entry["datetime_complete"])
    if entry["values"] is not None:
        trial.values = entry["values"]


def _set_intermediate_value(trial: Trial, entry: Entry) -> None:
    trial.intermediate_values[entry["step"]] = entry["intermediate_value"]


def _set_user_attr(trial: Trial, entry: Entry) -> None:
    trial.user_attrs.update(entry["user_attr"])


_APPLY: dict[int, Callable[[_Replay, Entry], None]] = {
    0: _Replay.create_study,
    1: _Replay.delete_study,
    4: _Replay.create_trial,
    5: _Replay.set_param,
}
_CHANGE: dict[int, Callable[[Trial, Entry], None]] = {6: _set_state, 7: _set_intermediate_value, 8: _set_user_attr}
# 2, 3: attributes of a study. 9: system attributes of a trial. 10: Optuna ignores it too.
_KNOWN = _APPLY.keys() | _CHANGE.keys() | {2, 3, 9, 10}


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@cache
def _external(distribution: str) -> Callable[[float], Any]:
    """Return the function that converts a number in the journal to a value of a distribution. A study has few distributions."""
    tree = json.loads(distribution)
    if tree["name"] == "CategoricalDistribution":
        choices: Sequence[Any] = tree["attributes"]["choices"]
        return lambda index: choices[int(index)]
    return int if tree["name"] == "IntDistribution" else lambda value: value


@cache
def _compatible(known: str, new: str) -> bool:
    """Return whether Optuna accepts both distributions for one parameter."""
    from optuna.distributions import check_distribution_compatibility, json_to_distribution

    try:
        check_distribution_compatibility(json_to_distribution(known), json_to_distribution(new))
    except ValueError:
        return False
    return True
