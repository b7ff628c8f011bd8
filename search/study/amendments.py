"""Continuing a run with changed settings: more trials, more time, longer trainings, a changed space.

`study.yaml` describes the current state. Its `amendments` record the previous values, one entry per change with its time,
command and versions, so that the original settings can be read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from winnow.search.settings import Settings, parse_duration
from winnow.search.storage import provenance
from winnow.search.storage.run_folder import RunFolder, write_study
from winnow.spaces import catalog
from winnow.spaces.diff import Difference, differences
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.nodes import Fixed
from winnow.spaces.grid import check_grid
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space
from winnow.spaces.validation import check_objective

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial

ENDED = "search_ended"
"""Key of study.yaml: the reason why the search ended before it had run all requested trials."""
SHORTAGE = "search_shortage"
"""Key of study.yaml: how many suggestions were rejected, and why, when no further config was found."""
# Settings that decide which images are used. Their location may differ: the fingerprint shows whether they are the same.
IMAGES = (
    *("name", "validation", "stratified", "groups", "limit", "image_size", "channels", "arguments"),
    *("image_column", "label_column", "one_hot", "remap_labels", "pixel_range", "skip_damaged"),
)


@dataclass(frozen=True)
class RunChanges:
    """Requested changes; None or empty leaves a setting unchanged."""

    trials: int | None = None
    """Trials in addition to those requested so far."""
    time_budget: str | None = None
    max_epochs: int | None = None
    space: str | None = None
    """Name or file of the space that replaces the space of the run."""
    overrides: Sequence[str] = ()
    accepted: bool = False
    """Whether the user has accepted the consequences of a change of the space."""
    command: str | None = None
    """The equivalent command, if the change was not made from the command line."""

    @property
    def any(self) -> bool:
        return bool(self.trials or self.time_budget or self.max_epochs or self.changes_space)

    @property
    def changes_space(self) -> bool:
        return bool(self.space or self.overrides)


@dataclass(frozen=True)
class AmendedRun:
    """The changed run, and messages for the user. Nothing is written before `write_start`."""

    study: dict[str, Any]
    space: Space
    settings: Settings
    words: tuple[str, ...] = ()


def write_start(folder: RunFolder, study: dict[str, Any], about: dict[str, Any], command: str | None = None) -> None:
    """Write study.yaml if anything in it must change for this start.

    That is the case if it was amended, if it records why the search ended, or if versions, hardware, devices or the user's code
    differ from those of the previous start.

    Args:
        folder: The run.
        study: The content of study.yaml, changed or not.
        about: Further facts of this start by their keys in study.yaml: `devices`, the resource plan, and `own_code`.
        command: The equivalent command, if this start was not made from the command line.
    """
    before = study
    study = {key: value for key, value in study.items() if key not in (ENDED, SHORTAGE)}
    amendments = list(study.get("amendments") or [])
    now = {**provenance.origin(), **about}
    last = amendments[-1] if amendments else study
    if amendments and "versions" not in last:  # amended for this start
        amendments[-1] = {**last, **now}
    elif any(_without_explanation(last.get(key)) != _without_explanation(value) for key, value in now.items()):
        amendments.append({**_heading(command), "changes": [], "before": {}, **now})
    elif ENDED not in before:
        return
    write_study(folder, {**study, "amendments": amendments})


def write_end(folder: RunFolder, reason: str, shortage: dict[str, Any] | None = None) -> None:
    """Record in study.yaml why the search ended before it had run all requested trials. The next start removes this.

    Args:
        folder: The run.
        reason: One of the reasons in `winnow.reports.text.next_step`.
        shortage: The fields of `winnow.search.samplers.suggester.Shortage`. Default: further configs could be found.
    """
    facts = {ENDED: reason} if shortage is None else {ENDED: reason, SHORTAGE: shortage}
    write_study(folder, {**folder.read_study(), **facts})


def amend(folder: RunFolder, study: dict[str, Any], space: Space, changes: RunChanges) -> AmendedRun:
    """Apply changes to a run in memory; nothing is written.

    Args:
        folder: The run.
        study: The content of its study.yaml.
        space: Its current space.
        changes: The requested changes.

    Returns:
        The changed run, and messages for the user.

    Raises:
        InputError: A change is impossible, or the user has not accepted that the space changes.
    """
    settings = Settings.from_dict(study["settings"])
    changed = _changed_space(space, changes)
    _check_same_aims(space, changed)
    changed_keys = differences(space, changed)
    trials = _trials_of(folder)
    num_further = 0
    words: list[str] = []
    if changed_keys:
        _check_same_images(space, changed)
        settings = settings.changed(max_epochs=changed.max_epochs)
        num_further, words = _consequences(changed, trials, changed_keys, settings)
        if changes.changes_space and not changes.accepted:
            raise InputError("\n".join([*words, "Nothing was changed. To continue anyway: --accept-space-change"]))
    settings = _extended(settings, changes, len(trials), num_further if changes.max_epochs else 0)
    if settings.stop_when is not None and (changes.trials or changes.time_budget or changes.max_epochs):
        settings = settings.changed(stop_when=None)
        words.append("An extended search ends with its trials or its time: `stop_when` of the run no longer applies.")
    if spec_of(settings.sampler).finite:
        check_grid(changed)
    for objective in settings.ranked_by:
        check_objective(changed, objective)
    if settings.grace_epochs > settings.max_epochs:
        settings = settings.changed(grace_epochs=settings.max_epochs)
    return AmendedRun(
        _amended_study(study, changed, settings, changed_keys, changes.command),
        changed,
        settings,
        (*words, *changed.notes),
    )


def _without_explanation(facts: Any) -> Any:
    """Return the facts without `explanation`, which differs between starts on equal devices."""
    return {key: value for key, value in facts.items() if key != "explanation"} if isinstance(facts, dict) else facts


def _changed_space(space: Space, changes: RunChanges) -> Space:
    """Return the changed space. A space file is read with its start points; overrides alone change the space of the run."""
    overrides = list(changes.overrides)
    if changes.max_epochs is not None:
        if not isinstance(space.root.children.get("epochs"), Fixed):
            raise InputError("--max-epochs: the space leaves `epochs` open; change that domain: --set epochs=...")
        if changes.max_epochs <= space.max_epochs:
            raise InputError(
                f"--max-epochs: must be above the {space.max_epochs} epochs of the run, but got {changes.max_epochs}"
            )
        overrides.append(f"epochs={changes.max_epochs}")
    if changes.space is not None:
        return catalog.load(changes.space, overrides)
    return catalog.changed(space, overrides) if overrides else space


def _check_same_aims(old: Space, new: Space) -> None:
    """Raise InputError if the new space has different limits or objectives: earlier trials were judged by those of the run."""
    before_and_after = [each.settings.ranked_by if each.settings.objectives else None for each in (old, new)]
    if before_and_after[0] != before_and_after[1]:
        raise InputError(
            "search.objectives: the objectives of a run cannot change, since its trials were judged by them; start a new run "
            "(winnow search), with --warm-start to use its trials"
        )
    before, after = old.settings.limits, new.settings.limits
    if before != after:
        raise InputError(
            f"search.limits: {before or 'none'} in the run, {after or 'none'} in the new space; trials were "
            "judged by them, so they cannot change; start a new run (winnow search), with --warm-start to use its trials"
        )


def _check_same_images(old: Space, new: Space) -> None:
    """Raise InputError if the new space uses different images: values measured on them could not be compared."""
    before, after = (space.example().data.model_dump(mode="json") for space in (old, new))
    for key in IMAGES:
        if before[key] != after[key]:
            raise InputError(
                f"data.{key}: {before[key]!r} in the run, {after[key]!r} in the new space: values measured on other images cannot be "
                "compared; start a new run (winnow search)"
            )


def _consequences(
    space: Space, trials: Sequence[Trial], changed_keys: Sequence[Difference], settings: Settings
) -> tuple[int, list[str]]:
    """Count the trials that will be trained longer, and describe what the change means for the user."""
    from winnow.search.study.space_changes import express, to_run_further

    inside = [trial for trial in trials if express(space, trial.user_attrs["config"]) is not None]
    tried = {str(trial.user_attrs.get("source")) for trial in trials}
    further = to_run_further(space, [trial for trial in trials if trial not in inside], tried, settings)
    words = ["The space changes:", *(f"  {difference}" for difference in changed_keys)]
    words.append(
        f"{len(inside)} of {len(trials)} trials lie in it and inform the search; the others stay in the report, but count neither "
        "for the sampler, nor for the rungs, nor as incumbent or winner."
    )
    num_open = sum(not trial.state.is_finished() for trial in trials if trial not in inside)
    if num_open:
        words.append(f"{num_open} unfinished trials outside it end as stopped.")
    if further:
        words.append(
            f"{len(further)} trials that reached the end, or were on their way, are tried again first, from the first epoch, "
            f"for {space.max_epochs} epochs."
        )
    return len(further), words


def _extended(settings: Settings, changes: RunChanges, num_trials: int, num_further: int) -> Settings:
    """Return the settings with more trials or time. A time budget alone allows as many trials as fit into it."""
    if changes.time_budget is not None:
        settings = settings.changed(time_budget_seconds=parse_duration(changes.time_budget))
        if changes.trials is None and changes.max_epochs is None and not changes.changes_space:
            return settings.changed(trials=None)
    more = (changes.trials or 0) + num_further
    if not more:
        return settings
    return settings.changed(trials=(num_trials if settings.trials is None else settings.trials) + more)


def _amended_study(
    study: dict[str, Any], space: Space, settings: Settings, changed_keys: Sequence[Difference], command: str | None
) -> dict[str, Any]:
    """Return study.yaml with the new values, and with one more amendment that holds the previous ones."""
    old, new = study["settings"], settings.to_dict()
    before: dict[str, Any] = {}
    if replaced := {key: old.get(key) for key in new if old.get(key) != new[key]}:
        before["settings"] = replaced
    if changed_keys or space.tree != study["space"]:
        before["space"] = study["space"]
    if not before:
        return study
    amendment = {**_heading(command), "changes": [str(difference) for difference in changed_keys], "before": before}
    return {**study, "settings": new, "space": space.tree, "amendments": [*(study.get("amendments") or []), amendment]}


def _heading(command: str | None) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "command": provenance.command_line() or command}


def _trials_of(folder: RunFolder) -> list[Trial]:
    """Return the trials in the journal, which is only read."""
    from winnow.reports.reading.journal import read_trials

    return [trial for trial in read_trials(folder.journal)[0] if "config" in trial.user_attrs]
