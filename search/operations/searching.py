"""Searches a space in a new run, and continues the search of an existing run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from winnow.reports.run_data import RunFacts
from winnow.reports.schemas import RUN_VERSION
from winnow.reports.tables.validation_names import write_validation_names
from winnow.reports.text import next_step
from winnow.reports.text.wording import NO_BASELINE, largest_class_beside_accuracy
from winnow.search.data.source import Source, describe_data, load_data
from winnow.search.operations.checks import check_space, load_recorded
from winnow.search.operations.execution import (
    Execution,
    interrupted,
    job_of,
    packing_of,
    recorded_gpus,
    storage_errors,
)
from winnow.search.operations.trust import own_code_hashes, remember_code
from winnow.search.resources.plan import ResourcePlan
from winnow.search.settings import Settings, parse_duration
from winnow.search.storage import provenance
from winnow.search.storage import remote as storage
from winnow.search.storage.remote import check_usable, join
from winnow.search.storage.run_folder import RunFolder, answers_name, check_new, create, free_path, space_of
from winnow.search.study.amendments import RunChanges, amend, write_end, write_start
from winnow.search.study.space_changes import MEASURED
from winnow.search.trackers.following import check_installed, following
from winnow.search.views.view import View
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.ray_backend.shared_data import SharedData
    from winnow.search.ray_backend.tune import Outcome
    from winnow.search.study.earlier_runs import EarlierRuns
    from winnow.search.study.trials import Event
    from winnow.search.study.warm_start import WarmStart


@dataclass(frozen=True)
class NewRun:
    """Location of a new run, and the run from which it starts."""

    runs_dir: Path = Path("runs")
    name: str | None = None
    """Name of the run folder; None for the name of the space, with a number if that folder exists."""
    storage: str | None = None
    """Path or URI that every node can reach, to which workers write; None for the run folder."""
    warm_start: str | None = None
    """Another run whose trials the sampler knows from the start; None if there is none."""
    retrain: bool = False
    """Whether retraining follows. This is recorded, so that `resume` of an interrupted search retrains too."""


def search(space: Space, settings: Settings, place: NewRun, execution: Execution) -> tuple[RunFolder, Outcome]:
    """Create a new run folder, and run a search in it.

    Args:
        space: The space to search.
        settings: Settings of the search.
        place: Location of the new run, and the run from which it starts.
        execution: Devices, images and view.

    Returns:
        The run folder, and how the search ended.

    Raises:
        InputError: An argument cannot be used. Whatever can be checked early is checked before the folder is created.
    """
    check_new(place.runs_dir, place.name)
    check_installed(execution.log)
    execution, view = execution.connected(), execution.view
    path = free_path(place.runs_dir, place.name, space.name)
    view.announce(_announced(path, place.name or space.name))
    storage = None if place.storage is None else check_usable(place.storage)
    view.step("reading the data")
    data = load_data(space, execution.new_source, _named_split(settings))
    for note in check_space(space, data, settings.trial_timeout, view.message, settings.named_metrics):
        view.message(note)
    facts = describe_data(data, space, settings.seed)
    for line in facts["summary"]["text"]:
        view.message(line)
    if space.baseline is None:
        view.message(NO_BASELINE)
    warm = _warm_start(place.warm_start, space, settings, facts, execution) if place.warm_start else None
    earlier = _earlier_runs(settings.learn_from, space, execution) if settings.learn_from else None
    measure = partial(packing_of, space=space, data=data, seed=settings.seed, say=view.step)
    written_to = storage or str(place.runs_dir.resolve())
    with execution.workers([space], settings.num_trials, [data], written_to, measure=measure) as (_, plan, [shared]):
        command, log = execution.command, list(execution.log)
        study = study_record(space, settings, facts, execution.new_source, plan, command) | {"log": log}
        study["storage"] = storage and join(storage, f"{place.name or space.name}-{uuid4().hex[:8]}")
        if place.retrain:
            study["then_retrain"] = True
        if warm is not None:
            study["warm_start"] = warm.facts
        if earlier is not None:
            study["earlier_runs"] = earlier.facts
        lines = (warm.lines if warm else (), earlier.lines if earlier else ())
        folder = create(place.runs_dir, place.name, space.name, study, *lines)
        remember_code(folder.path, space.tree)
        if folder.path != path:  # another search took the name meanwhile
            view.announce(_announced(folder.path, path.name))
        with folder.locked():
            _keep_names(folder, settings, data)
            return folder, _run(folder, space, settings, shared, data.image_shape, plan, execution)


def _named_split(settings: Settings) -> int | None:
    """Return the seed of the split whose validation images are named; None if their predictions are not kept."""
    return settings.seed if settings.keep_predictions else None


def _keep_names(folder: RunFolder, settings: Settings, data: ImageData) -> None:
    """Write the names of the validation images if their predictions are kept."""
    if settings.keep_predictions:
        with storage_errors(folder):
            write_validation_names(folder.path, data.validation_names)


def _announced(path: Path, name: str) -> str:
    taken = "" if path.name == name else f"  ({path.with_name(name)} exists already)"
    return f"run      {path}{taken}"


def resume(
    folder: RunFolder, changes: RunChanges, execution: Execution, time_budget: str | float | None = None
) -> Outcome:
    """Continue a search: first unfinished trials from their checkpoints, then new ones up to the requested number.

    Args:
        folder: The run.
        changes: Changes of the run; they are written after all checks.
        execution: Devices, images and view.
        time_budget: Time limit of this start only, in seconds or as a duration such as `2h`. Default: the setting of the run.

    Returns:
        How the search ended this time.

    Raises:
        InputError: A change cannot be made or was not accepted, the images are not those of the run, or the run is in use.
    """
    execution, view = execution.connected(), execution.view
    with folder.locked(), storage_errors(folder):
        study = folder.read_study()
        execution = replace(execution, log=execution.log or study.get("log", ()))
        check_installed(execution.log)
        space, settings = space_of(folder, study), Settings.from_dict(study["settings"])
        amended = amend(folder, study, space, changes) if changes.any else None
        if amended is not None:
            space, settings = amended.space, amended.settings
            for line in amended.words:
                view.step(line)
        if time_budget is not None:
            settings = settings.changed(time_budget_seconds=parse_duration(time_budget))
        view.step("reading the data")
        data = load_recorded(folder, study, space, execution.recorded_source(study), _named_split(settings))
        if largest := largest_class_beside_accuracy(RunFacts(path=folder.path, study=study), "validation"):
            view.message(largest)
        if changes.changes_space or changes.max_epochs:
            for note in check_space(space, data, settings.trial_timeout, view.message, settings.named_metrics):
                view.message(note)
        gpus = recorded_gpus(study)
        with execution.workers([space], settings.num_trials, [data], folder.shared, recorded=gpus) as (
            _,
            plan,
            [shared],
        ):
            about = {"devices": asdict(plan), **_own_code(space)}
            write_start(folder, amended.study if amended else study, about, execution.command)
            remember_code(folder.path, space.tree)
            _keep_names(folder, settings, data)
            return _run(folder, space, settings, shared, data.image_shape, plan, execution)


def _run(
    folder: RunFolder,
    space: Space,
    settings: Settings,
    data: SharedData,
    image_shape: tuple[int, int, int],
    plan: ResourcePlan,
    execution: Execution,
) -> Outcome:
    from winnow.search.ray_backend.end_with_ray import ending_with_ray
    from winnow.search.ray_backend.tune import Resources, run_search
    from winnow.search.study.ledger import Ledger

    view = execution.view
    with (
        storage_errors(folder),
        interrupted(folder),
        following(execution.log, folder, space, view.message) as tell_trackers,
    ):

        def listen(event: Event) -> None:
            view.on_event(event)
            tell_trackers(event)

        ledger = Ledger(folder, space, settings, image_shape, listener=listen)
        view.watch(ledger)
        view.step(plan.explanation)
        try:
            resources = Resources(plan.per_trial["cpu"], plan.per_trial["gpu"], plan.shares)
            job = replace(job_of(folder, plan, settings, limited=True), rungs=tuple(ledger.scheduler.rungs))
            with ending_with_ray(f"Nothing is lost. Continue with: {folder.command('resume')}"):
                outcome = run_search(ledger, data, job, resources, plan.concurrent, view.message)
            tell_trackers.at_once = outcome.at_once
            if settings.keep_predictions:
                _fetch_answers(folder, ledger.completed, view)
            shortage = None if ledger.shortage is None else asdict(ledger.shortage)
            if shortage is not None:
                view.step(f"{next_step.shortage_text(shortage)}: {ledger.num_asked} trials")
            if (reason := _early_end(outcome, shortage)) is not None:
                ledger.commit()  # otherwise trials whose end still waits would be open in a search that is recorded as ended
                write_end(folder, reason, shortage)
            return outcome
        finally:
            ledger.close()


def _early_end(outcome: Outcome, shortage: Mapping[str, Any] | None) -> str | None:
    """Return the reason why a search ended early without a need to resume it; None if it did not.

    Args:
        outcome: How the search ended.
        shortage: Why no further config was found, as study.yaml records it; None if one could be.
    """
    if outcome.interrupted or outcome.bug:
        return None
    if outcome.out_of_time:
        return next_step.ENDED_BY_TIME
    if outcome.no_gain:
        return next_step.ENDED_WITHOUT_GAIN
    if shortage is None:
        return None
    return next_step.ENDED_EXHAUSTED if shortage["every_config"] else next_step.ENDED_BY_REFUSALS


def _fetch_answers(folder: RunFolder, completed: Sequence[int], view: View) -> None:
    """Copy the predictions of trials on the validation images from the storage to the run folder, where reports read them."""
    if folder.shared == str(folder.path.resolve()):
        return
    for number in completed:
        name = join("predictions", answers_name(number))
        if not (folder.path / name).exists():
            try:
                answers = storage.read(join(folder.shared, name))
            except FileNotFoundError:
                view.message(
                    f"the predictions of trial {number} are no longer in the storage: {join(folder.shared, name)}"
                )
            else:
                storage.write(str(folder.path / name), answers)


def _warm_start(
    old_run: str, space: Space, settings: Settings, data: dict[str, Any], execution: Execution
) -> WarmStart:
    from winnow.search.study.warm_start import warm_start

    warm = warm_start(old_run, space, {"space": space.tree, "settings": settings.to_dict(), "data": data})
    facts = warm.facts
    execution.view.step(
        f"the sampler starts with {facts['trials_taken_over']} of {facts['trials_ended']} trials of {facts['run']}"
    )
    if measured := sorted(settings.measured & set(MEASURED)):
        execution.view.step(
            f"their {' and '.join(measured)} count only for trials on the device of this search, once its first trial shows which one that is"
        )
    return warm


def _earlier_runs(runs: Sequence[str], space: Space, execution: Execution) -> EarlierRuns:
    from winnow.search.study.earlier_runs import learn_from

    earlier = learn_from(runs, space)
    for reason in earlier.left_out:
        execution.view.step(f"not learning from {reason}")
    for facts in earlier.facts:
        left_out = f"; not known to it: {', '.join(facts['left_out'])}" if facts["left_out"] else ""
        execution.view.step(
            f"learning from {facts['trials_taken_over']} of {facts['trials_ended']} trials of {facts['run']}, "
            f"{len(facts['agreeing'])} parameters{left_out}"
        )
    return earlier


def study_record(
    space: Space, settings: Settings, data: dict[str, Any], source: Source, plan: ResourcePlan, command: str | None
) -> dict[str, Any]:
    """Return the content of `study.yaml` for a new run.

    Args:
        space: The space.
        settings: The settings of the search.
        data: Facts about the images, as `describe_data` returns them.
        source: Location of the images.
        plan: The resource plan of the trials.
        command: Command line that starts the run; None if it is not known.
    """
    return {
        "schema_version": RUN_VERSION,
        "name": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": provenance.command_line() or command,
        "space_source": space.source,
        "space": space.tree,
        "settings": settings.to_dict(),
        "data": data,
        "data_dir": str(source.data_dir.resolve()),
        "devices": asdict(plan),
        **provenance.origin(),
        **_own_code(space),
    }


def _own_code(space: Space) -> dict[str, Any]:
    """Return the entry of `study.yaml` about the user's own parts; empty if the space has none."""
    hashes = own_code_hashes(space.tree)
    return {"own_code": hashes} if hashes else {}
