"""Reads a run folder in any state: finished, still running, or interrupted at any point."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from types import NoneType
from typing import Any, Protocol

import yaml

from winnow.reports.masking import masked
from winnow.reports.reading.journal import read_trials
from winnow.reports.reading.json_lines import read_lines
from winnow.reports.reading.study_file import check_study
from winnow.reports.run_data import Row, RunRecords
from winnow.reports.schemas import RUN_VERSION
from winnow.reports.statuses import STATUSES
from winnow.reports.values import time_of
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain

EPOCH_KEYS: dict[str, tuple[type, ...]] = {"phase": (str,), "trial": (int,), "seed": (int,), "epoch": (int,)}
RETRAIN_KEYS: dict[str, tuple[type, ...]] = {
    "rank": (int, NoneType),
    "trial": (int, NoneType),
    "seed": (int,),
    "baseline": (bool,),
    "status": (str,),
    "config": (dict, NoneType),
}
RETRAINING = ("rank", "trial", "seed")
"""The keys that together identify a training in `retrain.jsonl`."""
EARLIER_TESTS = "earlier_tests"
"""The key of `RunFacts.study` about trainings that were tested earlier. What a study.yaml says under it is left out."""


def read_records(path: Path) -> RunRecords:
    """Read the trials, epochs and retrainings of the run in the folder `path`.

    Args:
        path: A run folder.

    Returns:
        The records of the run. Torn last lines are left out and mentioned in `notes`.

    Raises:
        InputError: There is no run, or its study.yaml is damaged or was written by a newer Winnow.
    """
    study = read_study(path)
    trials, journal_notes = read_trials(path / "study.journal")
    check_trials(path / "study.journal", trials)
    epochs, epoch_notes = read_lines(path / "epochs.jsonl", EPOCH_KEYS)
    retrains, retrain_notes = read_retrained(path)
    return RunRecords(
        path=path,
        study=study | _without_secrets(study) | _earlier_tests(path, retrains),
        notes=(*journal_notes, *epoch_notes, *retrain_notes),
        study_trials=trials,
        epoch_lines=first_of_each(epochs, tuple(EPOCH_KEYS)),
        retrain_lines=first_of_each(retrains, RETRAINING),
    )


def _without_secrets(study: Row) -> Row:
    """Return the entries of a study.yaml that may name URIs, without the secrets that versions before 0.2 recorded there."""

    def of(record: Row) -> Row:
        return {key: masked(record[key]) for key in ("storage", "command") if isinstance(record.get(key), str)}

    amendments = [amendment | of(amendment) for amendment in study.get("amendments") or []]
    return of(study) | ({"amendments": amendments} if amendments else {})


def _earlier_tests(path: Path, retrains: Sequence[Row]) -> Row:
    """Return what the report says of trainings that were tested, but are no longer among the retrainings.

    Another protocol or another space moves the lines of trainings to retrain.earlier.jsonl. What they did with the test images
    remains true.

    Args:
        path: The run folder.
        retrains: The lines of retrain.jsonl.

    Returns:
        The entry `earlier_tests` with the number of `trainings` and the time of the `first`, None if no line has a possible time; empty
        if there are none.
    """
    lines, _ = read_lines(path / "retrain.earlier.jsonl", {**RETRAIN_KEYS, "time": (int, float)})
    key = itemgetter("trial", "seed", "time")
    # A move that was interrupted has copied lines, and is repeated by the next retraining.
    shown = {key(line) for line in retrains if "time" in line}
    earlier = {key(line) for line in lines if line.get("test_accuracy") is not None} - shown
    if not earlier:
        return {}
    first = min(filter(None, (time_of(time) for *_, time in earlier)), default=None)
    text = None if first is None else first.isoformat(timespec="seconds")
    return {EARLIER_TESTS: {"trainings": len(earlier), "first": text}}


def read_retrained(path: Path) -> tuple[list[Row], list[str]]:
    """Read the lines about retrainings of a run.

    Args:
        path: A run folder.

    Returns:
        The lines in order, which have the keys `RETRAIN_KEYS`; and notes on those that were left out.

    Raises:
        InputError: The file cannot be read, or a line has an unknown status.
    """
    file = path / "retrain.jsonl"
    lines, notes = read_lines(file, RETRAIN_KEYS)
    for line in lines:
        if line["status"] not in STATUSES:
            raise InputError(f"{file}: damaged: {_unknown(line['status'])}")
    return lines, notes


class AnyTrial(Protocol):
    """What a trial of the journal has in common with Optuna's `FrozenTrial` of it."""

    @property
    def number(self) -> int: ...

    @property
    def user_attrs(self) -> dict[str, Any]: ...

    @property
    def values(self) -> Sequence[float] | None: ...

    @property
    def intermediate_values(self) -> Mapping[int, float]: ...


def check_trials(journal: Path, trials: Iterable[AnyTrial]) -> None:
    """Check that the trials of a journal have attributes and values that Winnow writes. Optuna accepts any.

    Args:
        journal: The file, for the message.
        trials: Its trials.

    Raises:
        InputError: A trial has others.
    """
    for trial in trials:
        if (problem := _problem(trial)) is not None:
            raise InputError(f"{journal}: damaged: trial {trial.number}: {problem}")


def _problem(trial: AnyTrial) -> str | None:
    attrs = trial.user_attrs
    if not isinstance(attrs, dict):
        return f"its attributes must be a mapping, but are {attrs!r}"
    if attrs.get("status") not in (None, *STATUSES):
        return _unknown(attrs["status"])
    if not isinstance(attrs.get("config"), dict | None):
        return f"its config must be a mapping, but is {attrs['config']!r}"
    if not isinstance(trial.values, list | None):
        return f"its values must be a list, but are {trial.values!r}"
    numbers = [*(trial.values or ()), *trial.intermediate_values.values(), attrs.get("started"), attrs.get("ended")]
    wrong = next((value for value in numbers if not isinstance(value, int | float | None)), None)
    return None if wrong is None else f"values and times must be numbers, but one is {wrong!r}"


def _unknown(status: object) -> str:
    return f"unknown status {status!r}; known are {', '.join(STATUSES)}"


def read_study(path: Path) -> Row:
    """Read the study.yaml of a run folder.

    Raises:
        InputError: There is no study.yaml, it is damaged or incomplete, or a newer Winnow wrote it.
    """
    file = path / "study.yaml"
    if not file.is_file():
        if not path.is_dir():
            raise InputError(f"{path}: there is no such run folder")
        raise InputError(f"{path}: this folder is not a run, since it contains no study.yaml")
    try:
        study = read_plain(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(study, dict):
        raise InputError(f"{file}: must contain a mapping, but contains {type(study).__name__}")
    version = study.get("schema_version")
    if not isinstance(version, int):
        raise InputError(f"{file}: schema_version must be a whole number, but got {version!r}")
    if version > RUN_VERSION:
        raise InputError(
            f"{file}: the run has schema_version {version}, but this Winnow reads up to {RUN_VERSION}; upgrade winnow-search"
        )
    study = {key: value for key, value in study.items() if key != EARLIER_TESTS}
    check_study(study, f"{file}: damaged or cut short")
    return study


def retraining_stem(trial: int, seed: int, is_baseline: bool) -> str:
    """Return the part that the names of a retraining's files have in common, such as `t7-s123`.

    Args:
        trial: Number of the trial whose config was retrained.
        seed: Seed of the retraining.
        is_baseline: Whether it is the baseline's, which need not be that of a trial.
    """
    return f"baseline-s{seed}" if is_baseline else f"t{trial}-s{seed}"


def first_of_each(rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """Return the first row for each combination of values. A resumed training may repeat an epoch, but decisions used the first.

    Args:
        rows: The rows.
        keys: The keys of these values, at least two.
    """
    first: dict[tuple[Any, ...], Row] = {}
    key_of = itemgetter(*keys)
    for row in rows:
        first.setdefault(key_of(row), row)
    return list(first.values())
