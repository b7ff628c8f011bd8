"""The commands as functions: search, resume, retrain. The command line only parses, calls these, and prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from winnow.reports.schemas import RUN_VERSION
from winnow.reports.text.wording import plural
from winnow.search.data.source import Source, describe_data, load_data
from winnow.search.ray_backend.backend import backend, resolved
from winnow.search.resources.plan import DeviceOptions, Measure, ResourcePlan
from winnow.search.settings import Settings, parse_duration
from winnow.search.storage import provenance
from winnow.search.storage.remote import check_usable, join
from winnow.search.storage.run_folder import RunFolder, check_new, create, space_of
from winnow.search.study.amendments import Wishes, amend, write_start
from winnow.search.trackers.following import check_installed, following
from winnow.search.views.plain import View
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.nodes import draw
from winnow.spaces.schema import Custom, Transfer
from winnow.spaces.space import Space
from winnow.spaces.stub_trials import completions
from winnow.spaces.validation import check

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.ray_backend.shared_data import SharedData
    from winnow.search.ray_backend.tune import Outcome
    from winnow.search.resources.packing import Packing
    from winnow.search.study.trials import Event
    from winnow.search.study.warm_start import WarmStart


NO_WISHES = Wishes()
NUM_MODELS_BUILT = 20  # random configs whose custom or torchvision model is built before a search


def search(
    space: Space,
    settings: Settings,
    *,
    runs_dir: Path,
    name: str | None,
    source: Source,
    devices: DeviceOptions,
    view: View,
    address: str | None = None,
    storage: str | None = None,
    warm_start: str | None = None,
    log: Sequence[str] = (),
    command: str | None = None,
) -> tuple[RunFolder, Outcome]:
    """A new run folder and the search in it. Everything that can be refused is refused before the folder exists.

    `storage` is a path or URI that every node reaches: workers then write there instead of into the run folder.
    `warm_start` is another run, whose trials the sampler knows from the start; `log` names trackers
    (`winnow.search.trackers.following.TRACKERS`) that are written to as well. `command` would do the same, where no command line began it.
    """
    check_new(runs_dir, name)
    check_installed(log)
    address = resolved(address)
    if storage is not None:
        storage = check_usable(storage)
    view.step("reading the data")
    data = load_data(space, source)
    check(space, data.image_shape)
    check_models(space, data)
    described = describe_data(data, space, settings.seed)
    for line in described["summary"]["text"]:
        view.step(line)
    warm = _warm_start(warm_start, space, settings, described, view) if warm_start else None
    place, num_trials = storage or str(runs_dir.resolve()), settings.num_trials
    measure = partial(packing_of, space=space, data=data, seed=settings.seed, say=view.step)
    with backend(view.step, devices, address, [space], num_trials, [data], place, measure) as (_, plan, [shared]):
        study = _study(space, settings, described, source, plan, command) | {"log": list(log)}
        study["storage"] = storage and join(storage, f"{name or space.name}-{uuid4().hex[:8]}")
        if warm is not None:
            study["warm_start"] = warm.facts
        folder = create(runs_dir, name, space.name, study, warm.lines if warm else ())
        with folder.locked():
            return folder, _run(folder, space, settings, shared, data.image_shape, plan, view, log)


def resume(
    folder: RunFolder,
    *,
    devices: DeviceOptions,
    view: View,
    source: Source | None = None,
    time_budget: str | float | None = None,
    wishes: Wishes = NO_WISHES,
    address: str | None = None,
    log: Sequence[str] = (),
) -> Outcome:
    """Go on with a search: open trials from their checkpoints, then new ones up to the number asked for.

    `time_budget` is for this start alone; `wishes` change the run, once nothing is left that could be refused. `log`: as for
    `search`; empty: what the run began with.
    """
    address = resolved(address)
    with folder.locked():
        study = folder.read_study()
        log = log or study.get("log", ())
        check_installed(log)
        space, settings = space_of(folder), Settings.from_dict(study["settings"])
        amended = amend(folder, study, space, wishes) if wishes.any else None
        if amended is not None:
            space, settings = amended.space, amended.settings
            for line in amended.words:
                view.step(line)
        if time_budget is not None:
            settings = replace(settings, time_budget_seconds=parse_duration(time_budget))
        view.step("reading the data")
        data = load_data(space, source or Source(Path(study["data_dir"])))
        if data.fingerprint != study["data"]["fingerprint"]:
            raise InputError(
                f"{folder.path}: the data set is not the one this run began with (fingerprint {data.fingerprint}, "
                f"was {study['data']['fingerprint']}); point --data-dir or the space's data.path to the original"
            )
        if wishes.changes_space or wishes.max_epochs:
            check(space, data.image_shape)
            check_models(space, data)
        num_trials, known = settings.num_trials, gpus_per_trial(study)
        place = folder.shared
        with backend(view.step, devices, address, [space], num_trials, [data], place, recorded=known) as (
            _,
            plan,
            [shared],
        ):
            with _write_errors(folder):
                write_start(folder, amended.study if amended else study, asdict(plan), wishes.command)
            return _run(folder, space, settings, shared, data.image_shape, plan, view, log)


def retrain(
    folder: RunFolder,
    *,
    devices: DeviceOptions,
    view: View,
    source: Source | None = None,
    top: int | None = None,
    seeds: int | None = None,
    address: str | None = None,
) -> int:
    """Train the best configs and the baseline with fresh seeds on train + validation, and test each once."""
    from winnow.search.study.trials import Event
    from winnow.search.winners.retraining import Candidate, choose_candidates
    from winnow.search.winners.retraining import retrain as run_retraining

    study = folder.read_study()
    log = study.get("log", ())
    check_installed(log)
    space, settings = space_of(folder), Settings.from_dict(study["settings"])
    asked = replace(settings.retrain, top=top or settings.retrain.top, seeds=seeds or settings.retrain.seeds)
    settings = replace(settings, retrain=asked)
    address = resolved(address)
    with folder.locked():
        candidates = choose_candidates(folder, space, settings)
        data = load_data(space, source or Source(Path(study["data_dir"])))
        num_trainings, known = len(candidates) * settings.retrain.seeds, gpus_per_trial(study)
        place = folder.shared
        with backend(view.step, devices, address, [space], num_trainings, [data], place, recorded=known) as (
            ray,
            plan,
            [shared],
        ):
            view.step(
                f"retraining {plural(len(candidates), 'config')}, {plural(settings.retrain.seeds, 'seed')} each, on train + validation"
            )
            job = _job(folder, plan, settings)
            with following(log, folder, space, view.message) as tell_trackers:

                def tell(candidate: Candidate, result: dict[str, Any], curve: list[dict[str, Any]]) -> None:
                    record = {"result": result, "curve": curve}
                    tell_trackers(Event("retrained", candidate.trial, candidate.config, record, result["status"]))

                return run_retraining(ray, folder, candidates, settings, shared, job, plan, view.progress, tell)


def check_models(space: Space, data: ImageData) -> None:
    """Networks whose sizes only torch knows (a user's own, torchvision's) are built once here, not first in a worker."""
    built = set()
    for trial in completions({}, NUM_MODELS_BUILT):
        raw = draw(space.root, trial)
        if space.infeasible(raw, data.image_shape):
            continue
        model = space.config(raw).model
        if isinstance(model, Custom | Transfer) and repr(model) not in built:
            from winnow.models import check_buildable

            built.add(repr(model))
            check_buildable(model, data.image_shape, data.num_classes)


def _run(
    folder: RunFolder,
    space: Space,
    settings: Settings,
    data: SharedData,
    image_shape: tuple[int, int, int],
    plan: ResourcePlan,
    view: View,
    log: Sequence[str] = (),
) -> Outcome:
    from winnow.search.ray_backend.tune import Resources, run_search
    from winnow.search.study.ledger import Ledger

    with _write_errors(folder), following(log, folder, space, view.message) as tell_trackers:

        def listen(event: Event) -> None:
            view.on_event(event)
            tell_trackers(event)

        ledger = Ledger(folder, space, settings, image_shape, listener=listen)
        view.watch(ledger)
        view.step(plan.explanation)
        try:
            resources = Resources(plan.per_trial["cpu"], plan.per_trial["gpu"])
            outcome = run_search(ledger, data, _job(folder, plan, settings), resources, plan.concurrent, view.message)
            if ledger.exhausted:
                view.step(f"the space holds no further config: all {ledger.num_asked} trials that there are were tried")
            return outcome
        finally:
            ledger.close()


def _job(folder: RunFolder, plan: ResourcePlan, settings: Settings) -> Any:
    from winnow.search.ray_backend.shared_data import Job

    return Job(
        checkpoints=join(folder.shared, "checkpoints"),
        device=plan.device,
        threads=plan.threads,
        seed=settings.seed,
        cpus=plan.cpus_per_trial,
        gpus=plan.gpus_per_trial,
    )


def packing_of(ray: Any, space: Space, data: ImageData, seed: int, say: Callable[[str], None]) -> Measure:
    """The measurement that `auto` asks for, of this space; nothing is imported or run before it is called."""

    def measure(device: str, cpus: float) -> Packing:
        from winnow.search.ray_backend.measure_packing import measure_packing

        return measure_packing(ray, space, data, device, cpus, seed, say)

    return measure


def gpus_per_trial(study: dict[str, Any]) -> float | None:
    """What an earlier start of this run gave each trial, where it had GPUs: measured or asked for."""
    return (study.get("devices") or {}).get("gpus_per_trial") or None


def _warm_start(old_run: str, space: Space, settings: Settings, data: dict[str, Any], view: View) -> WarmStart:
    from winnow.search.study.warm_start import warm_start

    warm = warm_start(old_run, space, {"space": space.tree, "settings": settings.to_dict(), "data": data})
    facts = warm.facts
    view.step(
        f"the sampler starts with {facts['trials_taken_over']} of {facts['trials_ended']} trials of {facts['run']}"
    )
    return warm


def _study(
    space: Space, settings: Settings, data: dict[str, Any], source: Source, plan: ResourcePlan, command: str | None
) -> dict[str, Any]:
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
    }


@contextmanager
def _write_errors(folder: RunFolder) -> Iterator[None]:
    """A full disk or a folder turned read-only: what was written stays good, and the search can be resumed."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{folder.path}: cannot write ({error.strerror or error}). Everything recorded so far is kept; "
            f"make room or mend the folder, then: winnow resume {folder.path}"
        ) from error
