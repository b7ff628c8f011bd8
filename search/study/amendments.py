"""A run that goes on otherwise than it began: more trials, more time, longer trainings, a changed space.

`study.yaml` always says what holds now. What held before a change is kept under `amendments`, one entry per change with its
time, command and versions, so that the original settings can be read back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml

from winnow.search.settings import Settings, parse_duration
from winnow.search.storage import provenance
from winnow.search.storage.run_folder import RunFolder, write_text
from winnow.spaces import catalog
from winnow.spaces.diff import Difference, differences
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.nodes import Fixed
from winnow.spaces.grid import check_grid
from winnow.spaces.samplers import spec_of
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.reports.reading.journal import Trial

# What decides which images are trained and judged on. Where they lie may differ: the fingerprint tells whether they are the same.
IMAGES = (
    *("name", "validation", "stratified", "groups", "limit", "image_size", "channels", "arguments"),
    *("image_column", "label_column", "one_hot", "remap_labels", "pixel_range", "skip_damaged"),
)


@dataclass(frozen=True)
class Wishes:
    """What a command wants to be otherwise; None and empty: as it is."""

    trials: int | None = None
    """So many more than were asked for until now."""
    time_budget: str | None = None
    max_epochs: int | None = None
    space: str | None = None
    """Name or file of the space that takes the place of the run's."""
    overrides: Sequence[str] = ()
    accepted: bool = False
    """Whether the user has seen what a change of the space means."""
    command: str | None = None
    """What would do the same, where no command line began it."""

    @property
    def any(self) -> bool:
        return bool(self.trials or self.time_budget or self.max_epochs or self.changes_space)

    @property
    def changes_space(self) -> bool:
        return bool(self.space or self.overrides)


@dataclass(frozen=True)
class Amended:
    """The run as it is to go on, and what there is to say about it. Nothing is written before `write`."""

    study: dict[str, Any]
    space: Space
    settings: Settings
    words: tuple[str, ...] = ()


def write_start(folder: RunFolder, study: dict[str, Any], devices: dict[str, Any], command: str | None = None) -> None:
    """Write study.yaml, if it has changed, or if this start has other versions, hardware or devices than the one before."""
    amendments = list(study.get("amendments") or [])
    now = {**provenance.origin(), "devices": devices}
    last = amendments[-1] if amendments else study
    if amendments and "versions" not in last:  # amended for this start
        amendments[-1] = {**last, **now}
    elif any(_without_words(last.get(key)) != _without_words(value) for key, value in now.items()):
        amendments.append({**_heading(command), "changes": [], "before": {}, **now})
    else:
        return
    write_text(folder.study, yaml.safe_dump({**study, "amendments": amendments}, sort_keys=False, allow_unicode=True))


def amend(folder: RunFolder, study: dict[str, Any], space: Space, wishes: Wishes) -> Amended:
    """The run with the wishes fulfilled; InputError where one cannot be, or is not accepted."""
    settings = Settings.from_dict(study["settings"])
    changed = _changed_space(space, wishes)
    found = differences(space, changed)
    trials = _trials_of(folder)
    num_further = 0
    words: list[str] = []
    if found:
        _check_same_images(space, changed)
        settings = replace(settings, max_epochs=changed.max_epochs)
        num_further, words = _consequences(changed, trials, found, settings)
        if wishes.changes_space and not wishes.accepted:
            raise InputError("\n".join([*words, "Nothing was changed. To go on so: --accept-space-change"]))
    settings = _extended(settings, wishes, len(trials), num_further if wishes.max_epochs else 0)
    if spec_of(settings.sampler).finite:
        check_grid(changed)
    if settings.grace_epochs > settings.max_epochs:
        settings = replace(settings, grace_epochs=settings.max_epochs)
    return Amended(
        _amended_study(study, changed, settings, found, wishes.command), changed, settings, (*words, *changed.notes)
    )


def _without_words(facts: Any) -> Any:
    """How the devices came to be shared out so is said anew at every start."""
    return {key: value for key, value in facts.items() if key != "explanation"} if isinstance(facts, dict) else facts


def _changed_space(space: Space, wishes: Wishes) -> Space:
    """The space that is to hold; a given file is read with its start points, an override changes the run's own."""
    overrides = list(wishes.overrides)
    if wishes.max_epochs is not None:
        if not isinstance(space.root.children.get("epochs"), Fixed):
            raise InputError("--max-epochs: the space leaves `epochs` open; change that domain: --set epochs=...")
        if wishes.max_epochs <= space.max_epochs:
            raise InputError(
                f"--max-epochs: must be above the {space.max_epochs} epochs of the run, but got {wishes.max_epochs}"
            )
        overrides.append(f"epochs={wishes.max_epochs}")
    if wishes.space is not None:
        return catalog.load(wishes.space, overrides)
    return catalog.changed(space, overrides) if overrides else space


def _check_same_images(old: Space, new: Space) -> None:
    """Values that were measured on other images would say nothing here."""
    before, after = (space.example().data.model_dump(mode="json") for space in (old, new))
    for key in IMAGES:
        if before[key] != after[key]:
            raise InputError(
                f"data.{key}: {before[key]!r} in the run, {after[key]!r} in the new space: values measured on other images do not "
                "compare; begin a new run (winnow search)"
            )


def _consequences(
    space: Space, trials: Sequence[Trial], found: Sequence[Difference], settings: Settings
) -> tuple[int, list[str]]:
    """How many trials will be run further, and what the change means in words."""
    from winnow.search.study.space_changes import express, to_run_further

    inside = [trial for trial in trials if express(space, trial.user_attrs["config"]) is not None]
    further = to_run_further(space, [trial for trial in trials if trial not in inside], settings.direction)
    words = ["The space changes:", *(f"  {difference}" for difference in found)]
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


def _extended(settings: Settings, wishes: Wishes, num_trials: int, num_further: int) -> Settings:
    """`--trials` counts on top of what was asked for; a time budget alone asks for as many as fit into it."""
    if wishes.time_budget is not None:
        settings = replace(settings, time_budget_seconds=parse_duration(wishes.time_budget))
        if wishes.trials is None and wishes.max_epochs is None and not wishes.changes_space:
            return replace(settings, trials=None)
    more = (wishes.trials or 0) + num_further
    if not more:
        return settings
    return replace(settings, trials=(num_trials if settings.trials is None else settings.trials) + more)


def _amended_study(
    study: dict[str, Any], space: Space, settings: Settings, found: Sequence[Difference], command: str | None
) -> dict[str, Any]:
    """study.yaml with what holds now, and one more amendment with what held before."""
    old, new = study["settings"], settings.to_dict()
    before: dict[str, Any] = {}
    if replaced := {key: old.get(key) for key in new if old.get(key) != new[key]}:
        before["settings"] = replaced
    if found or space.tree != study["space"]:
        before["space"] = study["space"]
    if not before:
        return study
    amendment = {**_heading(command), "changes": [str(difference) for difference in found], "before": before}
    return {**study, "settings": new, "space": space.tree, "amendments": [*(study.get("amendments") or []), amendment]}


def _heading(command: str | None) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "command": provenance.command_line() or command}


def _trials_of(folder: RunFolder) -> list[Trial]:
    """As the journal has them; only read."""
    from winnow.reports.reading.journal import read_trials

    return [trial for trial in read_trials(folder.journal)[0] if "config" in trial.user_attrs]
