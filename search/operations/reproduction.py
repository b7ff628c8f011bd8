"""Reproduces published experiments from their recipes and compares the figures (`winnow bench-recipes`).

Each recipe with each seed is one training in its own folder, exactly as `winnow train --output` writes it. It is fitted on the
training split, its epoch is selected on the validation split, and it is tested once. With `--fit-validation` it is fitted on both, and
its last epoch is tested. A training with a line in `results.jsonl` is
not repeated; one that was interrupted continues from its checkpoint.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from winnow.reports import write_training
from winnow.reports.durable import make_folder
from winnow.reports.tables.reference import RESULTS, training_name, write_table
from winnow.search.data.source import Source, load_data
from winnow.search.operations.checks import check_space, require_recipe
from winnow.search.operations.execution import Execution
from winnow.search.ray_backend.silence import limit
from winnow.search.ray_backend.tasks import Hangs, run_tasks
from winnow.search.resources.plan import ResourcePlan
from winnow.search.storage.clock import now
from winnow.search.storage.json_lines import JsonLines, read_json_lines
from winnow.search.storage.leftovers import sweep_heartbeats
from winnow.search.storage.run_folder import locked_folder
from winnow.search.training.errors import STORAGE_FAILED, Failed, StorageFailed, failure, storage_errors
from winnow.search.training.heartbeat import beating
from winnow.search.views.view import View
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space
from winnow.spaces.trial_status import TrialStatus

if TYPE_CHECKING:
    from winnow.search.data.image_data import ImageData
    from winnow.search.operations.training import TrainingJob
    from winnow.search.ray_backend.shared_data import SharedData


@dataclass(frozen=True)
class _Job:
    """A training, its output folder, and the key of its images."""

    recipe: str
    training: TrainingJob
    folder: Path
    data: str


def bench_recipes(
    patterns: Sequence[str],
    overrides: Sequence[str],
    *,
    seeds: int,
    output: Path,
    execution: Execution,
    fit_validation: bool = False,
) -> tuple[Path, int]:
    """Train every recipe and seed that has no result yet, and write the table.

    Args:
        patterns: Names of recipes, or patterns such as `cifar100-a*`.
        overrides: `PATH=VALUE` texts that are applied to every recipe.
        seeds: Number of seeds per recipe, at least 1.
        output: Folder for the trainings and the table.
        execution: Devices, images and view.
        fit_validation: Whether to train on the validation images too, as retraining does. Default: no.

    Returns:
        The path of the table, and the number of trainings that failed.

    Raises:
        InputError: An argument, a recipe or its images cannot be used, which is raised before the first training; or a file cannot be
            written or read.
    """
    from winnow.search.ray_backend.end_with_ray import ending_with_ray

    execution.devices.check_one_gpu("winnow bench-recipes")
    execution, view = execution.connected(), execution.view
    recipes = {name: catalog.load(name, overrides) for name in choose(patterns)}
    if fit_validation:
        _check_published_on_test(recipes.values())
    _make_folder(output)
    with locked_folder(output):
        with _written_to(output):
            sweep_heartbeats(output)
            todo = _todo(recipes, seeds, output, "retrain" if fit_validation else "search")
            if not todo:
                return write_table(output), 0
        data = _read_data(recipes, {job.recipe: job.data for job in todo}, execution.new_source, view)
        spaces, images = list(recipes.values()), list(data.values())
        with execution.workers(spaces, len(todo), images, str(output.resolve())) as (ray, plan, stored):
            view.message(f"{len(todo)} trainings, {plan.explanation}; each writes its epochs into {output}/")
            advice = "Finished trainings are kept: start the command again."
            with _written_to(output), ending_with_ray(advice):
                return _run(ray, todo, dict(zip(data, stored, strict=True)), plan, output, view.message)


def choose(patterns: Sequence[str]) -> list[str]:
    """Return the shipped recipes that have a published figure and match one of the patterns, as `recipes/NAME`.

    Raises:
        InputError: A pattern matches no recipe.
    """
    names = {name.removeprefix("recipes/"): name for name in catalog.recipe_names() if catalog.load(name).reference}
    chosen: dict[str, str] = {}
    for pattern in patterns:
        matching = [name for name in names if fnmatchcase(name, pattern.removeprefix("recipes/"))]
        if not matching:
            raise InputError(
                f"{pattern}: no recipe with a published figure has this name; there are: {', '.join(names)}"
            )
        chosen |= {name: names[name] for name in matching}
    return list(chosen.values())


def _bench_one(data: ImageData, training: TrainingJob, folder: str, device: str, threads: int) -> dict[str, Any]:
    """Run one training, or the rest of it, in a Ray worker.

    Args:
        data: Images of the recipe.
        training: Recipe, config and seed.
        folder: Folder of the training, which may hold its checkpoint.
        device: `cpu`, `cuda` or `mps`.
        threads: Number of CPU threads, at least 1.

    Returns:
        The figures of `result.json`; `status` and `error` if the training failed.
    """
    import torch

    from winnow.search.operations.training import fit_and_test

    torch.set_num_threads(threads)
    try:
        state = _checkpoint(Path(folder))
        with beating(_heartbeat(Path(folder)), divisible=False):
            final = fit_and_test(training, data, torch.device(device), Path(folder), state)
    except (Exception, SystemExit) as error:  # losing the worker would take seconds
        status, text = failure(error)
        return {"status": status, "error": text}
    return final


def _heartbeat(folder: Path) -> str:
    """Return the file that shows that a training is alive. It is beside the folder, which the training makes."""
    return str(folder.with_name(f".trial-{folder.name}.beat"))  # a name of `sweep_heartbeats`


@contextmanager
def _written_to(output: Path) -> Iterator[None]:
    """Convert an error of the disk with the folder of the trainings to an InputError that says how to continue."""
    try:
        with storage_errors(str(output), may_be_missing=False):
            yield
    except StorageFailed as error:
        raise InputError(
            f"--output: {error}. Finished trainings are kept: start the command again once there is room, or the folder is repaired"
        ) from error


def _make_folder(output: Path) -> None:
    try:
        make_folder(output)
    except OSError as error:
        raise InputError(f"--output {output}: cannot write there ({error.strerror})") from error


def _check_published_on_test(recipes: Iterable[Space]) -> None:
    """Check that no recipe is compared by the accuracy on its validation images, which are about to be trained on."""
    names = [space.name for space in recipes if space.reference and space.reference.split == "validation"]
    if names:
        raise InputError(
            f"--fit-validation: {', '.join(names)}: the published figure is an accuracy on validation images, so these must not be "
            "trained on; leave out --fit-validation, or these recipes"
        )


def _todo(recipes: dict[str, Space], seeds: int, output: Path, use: Literal["search", "retrain"]) -> list[_Job]:
    """Return the trainings that have no result yet, starting with the first seed of every recipe."""
    from winnow.search.operations.training import TrainingJob, check_recorded_config

    done = {(line["recipe"], line["seed"]): line for line in read_json_lines(output / RESULTS) if _counts(line)}
    jobs: list[_Job] = []
    finished_before: list[dict[str, Any]] = []
    for seed in range(seeds):
        for name, space in recipes.items():
            require_recipe(space)
            config = space.example()
            folder = output / training_name(space.name, seed)
            check_recorded_config(folder, config)
            finished = _finished(folder)
            _check_use(folder, done.get((space.name, seed)) or finished, use)
            if (space.name, seed) in done:
                continue
            loaded = config.data.model_dump_json(exclude={"normalize", "augment", "extra", "stratified"})
            job = _Job(name, TrainingJob(space.name, config, seed, use), folder, loaded)
            if finished is None:
                jobs.append(job)
            else:  # the driver was killed before it wrote the line, or `winnow train` created the folder
                finished_before.append(_line(job, finished))
    if finished_before:
        lines = JsonLines(output / RESULTS)
        for line in finished_before:
            lines.append(line)
        lines.close()
    return jobs


def _check_use(folder: Path, result: dict[str, Any] | None, use: Literal["search", "retrain"]) -> None:
    """Check that a training that was finished or begun used the validation images in the same way.

    Args:
        folder: Folder of the training, which may hold its checkpoint.
        result: Its figures; None if it is not finished.
        use: How the splits are used now.
    """
    state = _checkpoint(folder) if result is None else {"use": "retrain" if result.get("fit_validation") else "search"}
    if state is not None and (state.get("use") == "retrain") != (use == "retrain"):
        before = "without" if use == "retrain" else "with"
        raise InputError(
            f"{folder}: this training was started {before} --fit-validation; start the command again {before} it, or choose another "
            "--output"
        )


def _finished(folder: Path) -> dict[str, Any] | None:
    file = folder / "result.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def _line(job: _Job, result: dict[str, Any]) -> dict[str, Any]:
    """Return one line of `results.jsonl`."""
    training = job.training
    about = {"recipe": training.name, "seed": training.seed, "config": training.config.model_dump(mode="json")}
    return {**about, **result, "time": now()}


def _counts(line: dict[str, Any]) -> bool:
    """Return whether a training ended properly. A failed one is run again."""
    return line.get("status") in (TrialStatus.COMPLETED, TrialStatus.DIVERGED)


def _read_data(recipes: dict[str, Space], keys: dict[str, str], source: Source, view: View) -> dict[str, ImageData]:
    """Read each data set once, by its key, and check every recipe against its images.

    Raises:
        InputError: There are problems; the message lists all of them.
    """
    data: dict[str, ImageData] = {}
    problems = []
    for name, key in keys.items():
        try:
            if key not in data:
                view.step(f"reading the images of {name}")
                data[key] = load_data(recipes[name], source)
            check_space(recipes[name], data[key], say=view.message)
        except InputError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    return data


def _run(
    ray: Any,
    jobs: Sequence[_Job],
    data: dict[str, SharedData],
    plan: ResourcePlan,
    output: Path,
    listener: Callable[[str], None],
) -> tuple[Path, int]:
    """Run the trainings, which are one at least, and return the path of the table and the number of trainings that failed."""
    items = deque(
        (job, (data[job.data].reference, job.training, str(job.folder.resolve()), plan.device, plan.threads))
        for job in jobs
    )
    lines = JsonLines(output / RESULTS)
    num_failed = 0
    try:
        with closing(
            run_tasks(
                ray,
                _bench_one,
                items,
                plan.per_trial,
                epoch=_epochs_done,
                hangs=Hangs(lambda job: _heartbeat(job.folder.resolve()), limit(None, None)),
                say=listener,
                name=_name,
            )
        ) as ended:
            for number, (job, outcome) in enumerate(ended, start=1):
                failed = isinstance(outcome, Failed)
                result = {"status": outcome.status, "error": outcome.text} if failed else outcome
                if result["status"] == STORAGE_FAILED:
                    raise StorageFailed(result["error"])
                lines.append(_line(job, result))
                if _counts(result):
                    write_training(job.folder)
                num_failed += not _counts(result)
                listener(f"{_name(job)}: {_outcome(result)}  [{number} of {len(jobs)}]")
                table = write_table(output)
    finally:
        lines.close()
    return table, num_failed


def _name(job: _Job) -> str:
    return f"{job.training.name}, seed {job.training.seed}"


def _epochs_done(job: _Job) -> int:
    state = _checkpoint(job.folder)
    return state["epoch"] if state else 0


def _outcome(result: dict[str, Any]) -> str:
    if result["status"] != TrialStatus.COMPLETED:
        last_line = result.get("error", "").strip().splitlines()[-1:]
        return result["status"] + (f": {last_line[0]}" if last_line else "")
    return (
        f"test accuracy {result['test_accuracy']:.4f} with the weights of epoch {result['weights_epoch']} "
        f"of {result['epochs']}, {result['wall_seconds'] / 60:.1f} min"
    )


def _checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the checkpoint of an interrupted training; None if there is none, so that the training starts over."""
    from winnow.search.training.checkpoint import CorruptCheckpoint, load

    try:
        return load(folder / "checkpoint.pt")
    except (FileNotFoundError, CorruptCheckpoint):
        return None
