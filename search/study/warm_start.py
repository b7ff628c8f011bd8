"""Implements `--warm-start OLD_RUN`: the trials of another run inform the sampler of this one.

The trials are copied into the new run, so that the old one may be moved or deleted. They are not trials of the new run: they are
not counted, do not appear in its rungs or results, and their configs are not run again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.search.storage.json_lines import json_line
from winnow.search.storage.run_folder import open_run
from winnow.search.study.space_changes import express
from winnow.spaces.errors import InputError
from winnow.spaces.schema.limits import LIMITED
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.reports.run_data import RunFacts
    from winnow.spaces.schema import Limits


@dataclass(frozen=True)
class WarmStart:
    """The lines for `warm_start.jsonl`, and their summary for `study.yaml`."""

    lines: tuple[str, ...]
    facts: dict[str, Any]


def warm_start(old_run: str, space: Space, study: dict[str, Any]) -> WarmStart:
    """Collect the ended trials of another run that lie in the space of a new run.

    Args:
        old_run: Folder of the run whose trials are used.
        space: The space of the new run.
        study: Content of the new run's `study.yaml`.

    Returns:
        The trials, and the facts about them to record in the new run.

    Raises:
        InputError: The trials were measured differently (data, split, epochs or objective), none of them lies in the space, or none
            has a cost that the new search minimizes.
    """
    from winnow.reports.reading.run import read_records
    from winnow.reports.run_data import RunFacts

    path = open_run(old_run).path
    old = read_records(path)
    new = RunFacts(path=path, study=study)
    _check_same_protocol(old_run, old, new)
    ended = [trial for trial in old.study_trials if trial.state.is_finished() and "config" in trial.user_attrs]
    limits = space.settings.limits
    feasible = [trial for trial in ended if _is_feasible(trial, limits)]
    inside = [trial for trial in feasible if express(space, trial.user_attrs["config"]) is not None]
    for cost in space.settings.costs:
        if inside and not any(cost in trial.user_attrs for trial in inside):
            raise InputError(f"--warm-start {old_run}: none of its trials has a {cost}, which this search minimizes")
    if not inside:
        raise InputError(
            f"--warm-start {old_run}: none of its {len(ended)} ended trials lies in this space, so they contain no information about it"
        )
    lines = tuple(json_line(_line(trial)).rstrip("\n") for trial in inside)
    facts = {
        "run": old.name,
        "path": str(path.resolve()),
        "created": old.study.get("created"),
        "data_fingerprint": old.study["data"]["fingerprint"],
        "trials_ended": len(ended),
        "trials_taken_over": len(inside),
        "fingerprint": hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16],
    }
    return WarmStart(lines, facts)


def _is_feasible(trial: Trial, limits: Limits | None) -> bool:
    """Return whether a trial is within the limits of the new search. A trial that the old search's limits ended is not used."""
    if trial.user_attrs.get("status") == TrialStatus.INFEASIBLE:
        return False
    return limits is None or limits.exceeded(trial.user_attrs) is None


def _check_same_protocol(old_run: str, old: RunFacts, new: RunFacts) -> None:
    from winnow.reports.text.compare import protocol_differences

    mismatches = [(row["key"], *row["values"]) for row in protocol_differences([old, new])]
    if old.settings.get("seed") != new.settings.get("seed"):
        # The seed of a search decides its validation split.
        mismatches.append(("seed, and so the validation images", old.settings.get("seed"), new.settings.get("seed")))
    if mismatches:
        words = "; ".join(f"{key}: {before} there, {now} here" for key, before, now in mismatches)
        raise InputError(
            f"--warm-start {old_run}: its trials were measured differently and cannot be compared: {words}"
        )


def _line(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "values": trial.intermediate_values,
        "config": trial.user_attrs["config"],
        "figures": {figure: trial.user_attrs[figure] for figure in LIMITED.values() if figure in trial.user_attrs},
    }
