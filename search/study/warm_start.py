"""Implements `--warm-start OLD_RUN`: the trials of another run inform the sampler of this one.

The trials are copied into the new run, so that the old one may be moved or deleted. They are not trials of the new run: they are
not counted, do not appear in its rungs or results, and their configs are not run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.search.settings import attribute
from winnow.search.storage.json_lines import json_line
from winnow.search.storage.run_folder import open_run
from winnow.search.study.space_changes import MEASURED, express
from winnow.spaces.epoch_figures import in_words, is_cost, kept_values
from winnow.spaces.errors import InputError
from winnow.spaces.schema.limits import LIMITED
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial
    from winnow.reports.run_data import RunFacts, RunRecords
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
        InputError: The trials were measured differently (data, split, epochs or an objective), none of them lies in the space, or
            none has a value of one of the further objectives of the new search.
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
    figures = [_figures(old, trial, space.settings.further) for trial in inside]
    for name in space.settings.further:
        if inside and not any(key.partition("@")[0] == name for known in figures for key in known):
            raise InputError(
                f"--warm-start {old_run}: none of its trials has a {name}, which is an objective of this search"
            )
    if not inside:
        raise InputError(
            f"--warm-start {old_run}: none of its {len(ended)} ended trials lies in this space, so they contain no information about it"
        )
    processor = _processor(old.study)
    lines = tuple(json_line(_line(*each, processor)).rstrip("\n") for each in zip(inside, figures, strict=True))
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
    """Return whether a trial is within the limits of size. A trial that the old search's limits ended is not used.

    Measured figures are judged where the device of this search is known (`winnow.search.study.space_changes`).
    """
    if trial.user_attrs.get("status") == TrialStatus.INFEASIBLE:
        return False
    sizes = {figure: value for figure, value in trial.user_attrs.items() if figure not in MEASURED}
    return limits is None or limits.exceeded(sizes) is None


def _processor(study: dict[str, Any]) -> str | None:
    """Return the processor of a run; None if it is not known, or if the run was continued on another one."""
    starts = (study, *(study.get("amendments") or ()))
    processors = {(start.get("hardware") or {}).get("processor") for start in starts if start.get("hardware")}
    return processors.pop() if len(processors) == 1 else None


def _check_same_protocol(old_run: str, old: RunFacts, new: RunFacts) -> None:
    from winnow.reports.facts import measure
    from winnow.reports.text.compare import protocol_differences

    mismatches = [(row["key"], *row["values"]) for row in protocol_differences([old, new])]
    further = [(in_words(name), measure(old, name), measure(new, name)) for name in new.further]
    mismatches += [each for each in further if each[1] != each[2]]
    if old.settings.get("seed") != new.settings.get("seed"):
        # The seed of a search decides its validation split.
        mismatches.append(("seed, and so the validation images", old.settings.get("seed"), new.settings.get("seed")))
    if mismatches:
        words = "; ".join(f"{key}: {before} there, {now} here" for key, before, now in mismatches)
        raise InputError(
            f"--warm-start {old_run}: its trials were measured differently and cannot be compared: {words}"
        )


def _figures(old: RunRecords, trial: Trial, further: Sequence[str]) -> dict[str, float]:
    """Return the costs of a trial, and the metrics among the further objectives after each epoch, by their attributes."""
    from winnow.reports.tables.trials import epochs_of_trial

    figures = {figure: trial.user_attrs[figure] for figure in LIMITED.values() if figure in trial.user_attrs}
    rule = trial.user_attrs["config"].get("weights", "last")
    for name in (each for each in further if not is_cost(each)):
        kept = kept_values(rule, name, epochs_of_trial(old, trial.number))
        figures |= {attribute(name, epoch): value for epoch, value in kept.items()}
    return figures


def _line(trial: Trial, figures: dict[str, float], processor: str | None) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "state": trial.state.name,
        "value": trial.value,
        "values": trial.intermediate_values,
        "config": trial.user_attrs["config"],
        "figures": figures,
        "device": trial.user_attrs.get("device"),
        "processor": processor,
    }
