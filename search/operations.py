"""The commands as functions: search, resume, retrain. The command line only parses, calls these, and prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search import provenance
from search.devices import Devices, Plan, plan_resources
from search.folder import SCHEMA_VERSION, RunFolder, check_new, create
from search.progress import View
from search.settings import Settings, parse_duration
from spaces.check import check
from spaces.errors import InputError
from spaces.nodes import draw
from spaces.probe import completions
from spaces.schema import Custom, Transfer
from spaces.space import Space

if TYPE_CHECKING:
    from search.training.data import ImageData
    from search.tuner import Outcome


NUM_MODELS_BUILT = 20  # random configs whose custom or torchvision model is built before a search


@dataclass(frozen=True)
class Source:
    """Where the images lie on this machine; not part of the space, since it differs between machines."""

    data_dir: Path
    download: bool = False


def search(
    space: Space,
    settings: Settings,
    *,
    runs_dir: Path,
    name: str | None,
    source: Source,
    devices: Devices,
    view: View,
    address: str | None = None,
) -> tuple[RunFolder, Outcome]:
    """A new run folder and the search in it. Everything that can be refused is refused before the folder exists."""
    check_new(runs_dir, name)
    view.step("reading the data")
    data = load_data(space, source)
    check(space, data.image_shape)
    check_models(space, data)
    with _ray(view, devices, address) as ray:
        plan = plan_resources(ray, devices, settings.trials)
        study = _study(space, settings, data, source, plan)
        folder = create(runs_dir, name, space.name, study)
        with folder.locked():
            return folder, _run(ray, folder, space, settings, data, plan, view)


def resume(
    folder: RunFolder,
    *,
    devices: Devices,
    view: View,
    source: Source | None = None,
    time_budget: str | None = None,
    address: str | None = None,
) -> Outcome:
    """Go on with a search: open trials from their checkpoints, then new ones up to the number asked for."""
    study = folder.read_study()
    space, settings = space_of(folder), Settings.from_dict(study["settings"])
    if time_budget is not None:
        settings = replace(settings, time_budget_seconds=parse_duration(time_budget))
    with folder.locked():
        view.step("reading the data")
        data = load_data(space, source or Source(Path(study["data_dir"])))
        if data.fingerprint != study["data"]["fingerprint"]:
            raise InputError(
                f"{folder.path}: the data set is not the one this run began with (fingerprint {data.fingerprint}, "
                f"was {study['data']['fingerprint']}); point --data-dir or the space's data.path to the original"
            )
        with _ray(view, devices, address) as ray:
            plan = plan_resources(ray, devices, settings.trials)
            return _run(ray, folder, space, settings, data, plan, view)


def retrain(
    folder: RunFolder,
    *,
    devices: Devices,
    view: View,
    source: Source | None = None,
    top: int | None = None,
    seeds: int | None = None,
    address: str | None = None,
) -> int:
    """Train the best configs and the baseline with fresh seeds on train + validation, and test each once."""
    from search.retrain import choose_candidates
    from search.retrain import retrain as run_retraining

    study = folder.read_study()
    space, settings = space_of(folder), Settings.from_dict(study["settings"])
    asked = replace(settings.retrain, top=top or settings.retrain.top, seeds=seeds or settings.retrain.seeds)
    settings = replace(settings, retrain=asked)
    with folder.locked():
        baseline = space.config(space.baseline).model_dump(mode="json") if space.baseline else None
        candidates = choose_candidates(folder, settings, baseline)
        data = load_data(space, source or Source(Path(study["data_dir"])))
        with _ray(view, devices, address) as ray:
            plan = plan_resources(ray, devices, len(candidates) * settings.retrain.seeds)
            view.step(
                f"retraining {len(candidates)} configurations, {settings.retrain.seeds} seeds each, on train + validation"
            )
            job = _job(folder, plan, settings)
            return run_retraining(ray, folder, candidates, settings, data, job, plan.per_trial, view.progress)


def check_models(space: Space, data: ImageData) -> None:
    """Networks whose sizes only torch knows (a user's own, torchvision's) are built once here, not first in a worker."""
    built = set()
    for trial in completions({}, NUM_MODELS_BUILT):
        raw = draw(space.root, trial)
        if space.infeasible(raw, data.image_shape):
            continue
        model = space.config(raw).model
        if isinstance(model, Custom | Transfer) and repr(model) not in built:
            from models import check_buildable

            built.add(repr(model))
            check_buildable(model, data.image_shape, data.num_classes)


def space_of(folder: RunFolder) -> Space:
    return Space.from_tree(folder.read_study()["space"], source=str(folder.study))


def load_data(space: Space, source: Source) -> ImageData:
    """The images of a space. What decides which images are read is fixed in a space, so any config of it will do."""
    from search.training.data import load

    return load(space.example().data, source.data_dir, source.download)


def _run(
    ray: Any, folder: RunFolder, space: Space, settings: Settings, data: ImageData, plan: Plan, view: View
) -> Outcome:
    from search.ledger import Ledger
    from search.tuner import Resources, run_search

    with _write_errors(folder):
        ledger = Ledger(folder, space, settings, data.image_shape, listener=view.on_event)
        view.watch(ledger)
        view.step(plan.explanation)
        try:
            resources = Resources(plan.cpus_per_trial, plan.gpus_per_trial)
            return run_search(ledger, data, _job(folder, plan, settings), resources, view.message)
        finally:
            ledger.close()


def _job(folder: RunFolder, plan: Plan, settings: Settings) -> Any:
    from search.worker import Job

    return Job(
        checkpoints=str(folder.checkpoints.resolve()), device=plan.device, threads=plan.threads, seed=settings.seed
    )


def _study(space: Space, settings: Settings, data: ImageData, source: Source, plan: Plan) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "winnow_version": provenance.version(),
        "name": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": provenance.command_line(),
        "space_source": space.source,
        "space": space.tree,
        "settings": settings.to_dict(),
        "data": describe_data(data, space, settings.seed),
        "data_dir": str(source.data_dir.resolve()),
        "devices": asdict(plan),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "git_revision": provenance.git_revision(),
    }


def describe_data(data: ImageData, space: Space, seed: int) -> dict[str, Any]:
    from search.training.data import split

    config = space.example().data
    parts = split(data, config.validation, config.stratified, seed)
    return {
        "name": data.name,
        "image_shape": list(data.image_shape),
        "num_classes": data.num_classes,
        "class_names": list(data.class_names),
        "num_train": len(parts.train_index),
        "num_validation": len(parts.validation_index),
        "num_test": len(data.test_labels),
        "fingerprint": data.fingerprint,
        "notes": list(data.notes),
    }


@contextmanager
def _ray(view: View, devices: Devices, address: str | None) -> Iterator[Any]:
    from search.session import is_running, ray_session

    if not is_running():
        view.step("starting Ray")
    with ray_session(devices.num_cpus, devices.num_gpus, address) as ray:
        yield ray


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
