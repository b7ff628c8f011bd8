"""The functions that search, retrain and plan from Python. Each does the same as the `winnow` command of its name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from winnow.search.api.command_line import as_command
from winnow.search.api.common import ALL_DEVICES, Overrides, Place, SearchFailed, as_texts, execution, load_space
from winnow.search.api.option_types import RunOptions, SearchOptions
from winnow.search.api.run import Run
from winnow.search.operations import probing, retraining, searching
from winnow.search.operations.execution import Execution
from winnow.search.operations.searching import NewRun
from winnow.search.operations.viewing import report
from winnow.search.ray_backend.session import ray_kept
from winnow.search.resources.plan import DeviceOptions
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.run_folder import RunFolder, open_run
from winnow.search.study.amendments import RunChanges
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.operations.planning import SearchForecast
    from winnow.search.ray_backend.tune import Outcome


def run(
    space: Space | Place,
    overrides: Overrides = (),
    *,
    name: str | None = None,
    runs_dir: Place = "runs",
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    storage: str | None = None,
    quiet: bool = False,
    warm_start: Place | None = None,
    log: Sequence[str] = (),
    **options: Unpack[RunOptions],
) -> Run:
    """Search a space, retrain the winners and write the report, as `winnow run` does.

    Args:
        space: A name of the catalog, the path of a YAML file, or a `Space`.
        overrides: Values that replace those of the space: `["epochs=6"]` as after `--set`, or `{"epochs": 6}`.
        name: Name of the run folder, which must be new; Default: the name of the space, with a number if that folder exists.
        runs_dir: Folder in which the run folder is created.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.
        storage: URI or path that all nodes can reach, to which the workers of a cluster write. Default: the run folder.
        warm_start: Another run with the same data, split, epochs and objective, whose trials the sampler knows from the start.
        log: Trackers that also receive the figures: `tensorboard`, `mlflow` or `wandb`. A resumed run continues with them.
        **options: Search and retraining options, such as `trials=20`; see "Options" below. An option that is not
            given has the value of the space.

    Returns:
        The run.

    Raises:
        InputError: The space, the images or an option cannot be used; no run folder is created then.
        SearchFailed: The last trials all ended with the same error.
        KeyboardInterrupt: The search was interrupted. Its state is kept, and `resume` continues it.
    """
    command = as_command("run", locals())
    searched = load_space(space, overrides)
    settings = settings_for(searched, **options)
    place = replace(_new_run(runs_dir, name, storage, warm_start), retrain=True)
    with _one_ray():
        with execution(devices, data_dir, download, address, quiet, log, command) as context:
            folder = _search(searched, settings, place, context)
        return retrain(Run(folder.path), download=download, devices=devices, address=address, quiet=quiet)


def search(
    space: Space | Place,
    overrides: Overrides = (),
    *,
    name: str | None = None,
    runs_dir: Place = "runs",
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    storage: str | None = None,
    quiet: bool = False,
    warm_start: Place | None = None,
    log: Sequence[str] = (),
    **options: Unpack[SearchOptions],
) -> Run:
    """Search a space in a new run folder and write the report, as `winnow search` does.

    Args:
        space: A name of the catalog, the path of a YAML file, or a `Space`.
        overrides: Values that replace those of the space: `["epochs=6"]` as after `--set`, or `{"epochs": 6}`.
        name: Name of the run folder, which must be new; Default: the name of the space, with a number if that folder exists.
        runs_dir: Folder in which the run folder is created.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.
        storage: URI or path that all nodes can reach, to which the workers of a cluster write. Default: the run folder.
        warm_start: Another run with the same data, split, epochs and objective, whose trials the sampler knows from the start.
        log: Trackers that also receive the figures: `tensorboard`, `mlflow` or `wandb`. A resumed run continues with them.
        **options: Search options, such as `trials=20`; see "Options" below. An option that is not given has the value of the space.

    Returns:
        The run. It has no winners yet; `retrain` creates them.

    Raises:
        InputError: The space, the images or an option cannot be used; no run folder is created then.
        SearchFailed: The last trials all ended with the same error.
        KeyboardInterrupt: The search was interrupted. Its state is kept, and `resume` continues it.
    """
    command = as_command("search", locals())
    searched = load_space(space, overrides)
    settings = settings_for(searched, **options)
    place = _new_run(runs_dir, name, storage, warm_start)
    with execution(devices, data_dir, download, address, quiet, log, command) as context:
        folder = _search(searched, settings, place, context)
    return _reported(folder)


def resume(
    run: Place,
    *,
    time_budget: str | float | None = None,
    space: str | Path | None = None,
    overrides: Overrides = (),
    accept_space_change: bool = False,
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
    log: Sequence[str] = (),
) -> Run:
    """Continue a search that was interrupted, killed, or ran out of time, as `winnow resume` does.

    A run that `run` started is then retrained, too.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        time_budget: Time limit of this start, in seconds or as `"90s"`, `"5m"`, `"2h"`. Default: the setting of the run.
        space: A space to continue in, by name or path. Default: the space of the run.
        overrides: Values that replace those of the space.
        accept_space_change: Whether to apply a change of the space; if False, an `InputError` describes it and nothing changes.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: the folder that the run recorded.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.
        log: Trackers that also receive the figures: `tensorboard`, `mlflow` or `wandb`. Default: those with which the run began.

    Returns:
        The run, with a new report.

    Raises:
        InputError: There is no such run, it is in use, its images have changed, or a change is refused.
        SearchFailed: The last trials all ended with the same error.
        KeyboardInterrupt: The search was interrupted. Its state is kept.
    """
    command = as_command("resume", locals())
    changes = _changes(space, overrides, accept_space_change)
    folder = open_run(Path(run))
    with _one_ray():
        with execution(devices, data_dir, download, address, quiet, log, command) as context:
            resumed = _continue(folder, replace(changes, command=command), context, time_budget)
        if not folder.then_retrain:
            return resumed
        return retrain(resumed, data_dir=data_dir, download=download, devices=devices, address=address, quiet=quiet)


def extend(
    run: Place,
    *,
    trials: int | None = None,
    time_budget: str | float | None = None,
    max_epochs: int | None = None,
    space: str | Path | None = None,
    overrides: Overrides = (),
    accept_space_change: bool = False,
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
    log: Sequence[str] = (),
) -> Run:
    """Continue a search with more trials, time or epochs than requested, as `winnow extend` does.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        trials: Number of trials to add, at least 1; the time budget of the run, if any, still applies.
        time_budget: Continue for this long, in seconds or as `"90s"`, `"5m"`, `"2h"`: alone, with as many new trials as fit;
            with `trials`, with at most that many.
        max_epochs: New number of epochs of a full training, above that of the run; rungs are added. Trials that had reached the
            end run again first, from their first epoch, in addition to `trials`.
        space: A space to continue in, by name or path. Default: the space of the run.
        overrides: Values that replace those of the space.
        accept_space_change: Whether to apply a change of the space; if False, an `InputError` describes it and nothing changes.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: the folder that the run recorded.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.
        log: Trackers that also receive the figures: `tensorboard`, `mlflow` or `wandb`. Default: those with which the run began.

    Returns:
        The run, with a new report; `study.yaml` keeps the earlier settings.

    Raises:
        InputError: No extension is given, there is no such run, its images have changed, or a change is refused.
        SearchFailed: The last trials all ended with the same error.
        KeyboardInterrupt: The search was interrupted. Its state is kept.
    """
    command = as_command("extend", locals())
    for name, value in (("trials", trials), ("max_epochs", max_epochs)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"extend: {name}={value!r}: must be a whole number of at least 1")
    changes = replace(
        _changes(space, overrides, accept_space_change),
        trials=trials,
        time_budget=None if time_budget is None else str(time_budget),
        max_epochs=max_epochs,
        command=command,
    )
    if not changes.any:
        raise InputError("extend: give trials, time_budget or max_epochs")
    with execution(devices, data_dir, download, address, quiet, log, command) as context:
        return _continue(open_run(Path(run)), changes, context)


def retrain(
    run: Place,
    *,
    top: int | None = None,
    seeds: int | None = None,
    keep_validation: bool | None = None,
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
) -> Run:
    """Train the best configs again with fresh seeds, on train + validation by default, and test each once, as `winnow retrain` does.

    Args:
        run: The run: its path, its name under `runs/`, or a `Run`.
        top: Number of best configs, at least 1. Default: the setting of the run.
        seeds: Number of seeds per config, at least 1. Default: the setting of the run.
        keep_validation: Whether to train only on the training images, and let the validation images choose the epoch. Default: the
            setting of the run.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: the folder that the run recorded.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        quiet: Whether to show no progress.

    Returns:
        The run, with winners and a new report.

    Raises:
        InputError: There is no such run, it has no completed trial, or its images have changed.
    """
    folder = open_run(Path(run))
    with execution(devices, data_dir, download, address, quiet) as context:
        retraining.retrain(folder, context, top=top, seeds=seeds, keep_validation=keep_validation)
    return _reported(folder)


def plan(
    space: Space | Place,
    overrides: Overrides = (),
    *,
    probe: bool = True,
    data_dir: Place | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    **options: Unpack[SearchOptions],
) -> SearchForecast:
    """Forecast what a search will do and cost, without running it, as `winnow plan` does.

    Args:
        space: A name of the catalog, the path of a YAML file, or a `Space`.
        overrides: Values that replace those of the space: `["epochs=6"]` as after `--set`, or `{"epochs": 6}`.
        probe: Whether to train for a few seconds, to estimate time and memory.
        data_dir: Folder of the data sets CIFAR-10 and CIFAR-100. Default: `data/`.
        download: Whether to download a data set that is missing.
        devices: The devices, and how trainings share them.
        address: A running Ray cluster, as `auto` or `host:port`. Default: this machine.
        **options: Search options, such as `trials=20`; see "Options" below. An option that is not given has the value of the space.

    Returns:
        The rungs, the trials that reach them, the epochs, and the estimate (None without a probe).

    Raises:
        InputError: The space, the images, the devices or an option cannot be used.
    """
    loaded = load_space(space, overrides)
    settings = settings_for(loaded, **options)
    with execution(devices, data_dir, download, address, quiet=True) as context:
        return probing.plan_search(loaded, settings, context if probe else None, lambda text: None)


def _new_run(runs_dir: Place, name: str | None, storage: str | None, warm_start: Place | None) -> NewRun:
    return NewRun(Path(runs_dir), name, storage, None if warm_start is None else str(Path(warm_start)))


def _search(space: Space, settings: Settings, place: NewRun, context: Execution) -> RunFolder:
    folder, outcome = searching.search(space, settings, place, context)
    _raise_unless_done(folder, outcome)
    return folder


def _changes(space: str | Path | None, overrides: Overrides, accepted: bool) -> RunChanges:
    return RunChanges(space=None if space is None else str(space), overrides=as_texts(overrides), accepted=accepted)


def _continue(
    folder: RunFolder, changes: RunChanges, context: Execution, time_budget: str | float | None = None
) -> Run:
    _raise_unless_done(folder, searching.resume(folder, changes, context, time_budget))
    return _reported(folder)


def _raise_unless_done(folder: RunFolder, outcome: Outcome) -> None:
    if outcome.bug:
        raise SearchFailed(outcome.bug)
    if outcome.interrupted:
        raise KeyboardInterrupt(f"nothing is lost; continue with: winnow.search.resume({str(folder.path)!r})")


def _reported(folder: RunFolder) -> Run:
    report(folder.path)
    return Run(folder.path)


def _one_ray() -> AbstractContextManager[None]:
    """Return a context in which search and retraining use the same Ray. A Ray that a notebook started itself is left running."""
    ray = sys.modules.get("ray")  # importing it here would bypass Winnow's settings
    return nullcontext() if ray is not None and ray.is_initialized() else ray_kept()
