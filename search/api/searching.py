"""Winnow from Python: search, retrain and report as functions, for scripts and notebooks. `winnow.search.api.using` has the others."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, get_type_hints

from pydantic import ValidationError

from winnow import reports
from winnow.search.api.command_line import Overrides, as_command, as_texts
from winnow.search.api.run import Run
from winnow.search.data.source import Source
from winnow.search.operations import searching as operations
from winnow.search.ray_backend.session import ray_kept
from winnow.search.resources.plan import DeviceOptions
from winnow.search.settings import Settings, settings_for
from winnow.search.storage.run_folder import RunFolder, open_run
from winnow.search.study.amendments import Wishes
from winnow.search.views.plain import View, make_view
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.problems import nearest
from winnow.spaces.schema import RetrainSettings, SearchSettings
from winnow.spaces.space import Space

if TYPE_CHECKING:
    from winnow.search.ray_backend.tune import Outcome

ALL_DEVICES = DeviceOptions()


class SearchOptions(TypedDict, total=False):
    """The options of `winnow search`; what is left out is as the space says."""

    trials: int
    time_budget: str | float
    """Seconds, or "90s", "5m", "2h"."""
    objective: Literal["validation_accuracy", "validation_loss"]
    sampler: str
    grace_epochs: int
    reduction_factor: float
    checkpoint_quota: float
    audit: float
    repeats: int
    seed: int


class RunOptions(SearchOptions, total=False):
    """Those of `winnow run`: also how many of the best configs are retrained, with how many seeds each."""

    top: int
    seeds: int


class SearchFailed(RuntimeError):
    """The search stopped since its trials all ended with the same error; the message is its traceback."""


def run(
    space: Space | str | Path,
    overrides: Overrides = (),
    *,
    name: str | None = None,
    runs_dir: Path | str = "runs",
    data_dir: Path | str = "data",
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    storage: str | None = None,
    quiet: bool = False,
    warm_start: Run | Path | str | None = None,
    log: Sequence[str] = (),
    **options: Unpack[RunOptions],
) -> Run:
    """Search, retrain the winners, report: what `winnow run` does. The sampler knows the trials of `warm_start`, another run, from the start;
    `log` may name `tensorboard` and `mlflow`, which are written to as well (a resumed run goes on with them).

    `space` is a name, a file or a `load_space(...)`; `overrides` are `["epochs=6"]`, as after `--set`, or `{"epochs": 6}`. InputError for bad input, SearchFailed, or
    KeyboardInterrupt: what was done until then is kept, and `search.resume` goes on with it.
    """
    command = as_command("run", locals())
    searched = load_space(space, overrides)
    settings = settings_for(searched, **checked("run", dict(options), RunOptions))
    source = Source(Path(data_dir), download)
    with _one_ray():
        found = _search(
            searched, settings, Path(runs_dir), name, source, devices, address, storage, quiet, warm_start, log, command
        )
        return retrain(found, devices=devices, address=address, quiet=quiet)


def search(
    space: Space | str | Path,
    overrides: Overrides = (),
    *,
    name: str | None = None,
    runs_dir: Path | str = "runs",
    data_dir: Path | str = "data",
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    storage: str | None = None,
    quiet: bool = False,
    warm_start: Run | Path | str | None = None,
    log: Sequence[str] = (),
    **options: Unpack[SearchOptions],
) -> Run:
    """Search a space in a new run folder, as `winnow search` does. Parameters and errors are those of `run`."""
    command = as_command("search", locals())
    searched = load_space(space, overrides)
    settings = settings_for(searched, **checked("search", dict(options), SearchOptions))
    source = Source(Path(data_dir), download)
    return _reported(
        _search(
            searched, settings, Path(runs_dir), name, source, devices, address, storage, quiet, warm_start, log, command
        ).path
    )


def resume(
    run: Run | str | Path,
    *,
    time_budget: str | float | None = None,
    space: str | Path | None = None,
    overrides: Overrides = (),
    accept_space_change: bool = False,
    data_dir: Path | str | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
    log: Sequence[str] = (),
) -> Run:
    """Go on with a search that was interrupted, killed, or out of time, as `winnow resume` does; in a changed space, if one is given."""
    command = as_command("resume", locals())
    wishes = replace(_changes(space, overrides, accept_space_change), command=command)
    return _go_on(run, wishes, time_budget, _source(data_dir, download), devices, address, quiet, log)


def extend(
    run: Run | str | Path,
    *,
    trials: int | None = None,
    time_budget: str | float | None = None,
    max_epochs: int | None = None,
    space: str | Path | None = None,
    overrides: Overrides = (),
    accept_space_change: bool = False,
    data_dir: Path | str | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
    log: Sequence[str] = (),
) -> Run:
    """Go on with a search for more trials, more time or more epochs than it was asked for, as `winnow extend` does."""
    command = as_command("extend", locals())
    for name, value in (("trials", trials), ("max_epochs", max_epochs)):
        if value is not None and (not isinstance(value, int) or value < 1):
            raise InputError(f"extend: {name}={value!r}: must be a whole number of at least 1")
    budget = None if time_budget is None else str(time_budget)
    changes = _changes(space, overrides, accept_space_change)
    wishes = replace(changes, trials=trials, time_budget=budget, max_epochs=max_epochs, command=command)
    if not wishes.any:
        raise InputError("extend: say by how much: trials, time_budget or max_epochs")
    return _go_on(run, wishes, None, _source(data_dir, download), devices, address, quiet, log)


def retrain(
    run: Run | str | Path,
    *,
    top: int | None = None,
    seeds: int | None = None,
    data_dir: Path | str | None = None,
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
) -> Run:
    """Train the best configs again on train + validation with fresh seeds, and test each once, as `winnow retrain` does."""
    checked("retrain", {"top": top, "seeds": seeds}, RunOptions)
    folder = open_run(Path(run))
    with _view(quiet) as view:
        operations.retrain(
            folder,
            devices=devices,
            view=view,
            source=_source(data_dir, download),
            top=top,
            seeds=seeds,
            address=address,
        )
    return _reported(folder.path)


def report(run: Run | str | Path) -> Path:
    """Write the tables and the HTML report of a run, or of what `train(output=...)` wrote; the HTML file."""
    path = Path(run)
    return reports.write_training(path) if reports.is_training(path) else reports.write(open_run(path).path)


def load_space(space: Space | str | Path, overrides: Overrides = ()) -> Space:
    """A space of the catalog, a recipe or a YAML file, with values set."""
    if isinstance(space, Space):
        if overrides:
            raise InputError("overrides are applied when a space is read: load_space(NAME, overrides)")
        return space
    if not isinstance(space, str | Path):
        raise InputError(f"a space is a name, a path or a Space, but got {type(space).__name__}: {space!r}")
    return catalog.load(space, as_texts(overrides))


# --- what several functions do ------------------------------------------------------------------------------------------


def _search(
    space: Space,
    settings: Settings,
    runs_dir: Path,
    name: str | None,
    source: Source,
    devices: DeviceOptions,
    address: str | None,
    storage: str | None,
    quiet: bool,
    warm_start: Run | Path | str | None,
    log: Sequence[str],
    command: str | None,
) -> Run:
    with _view(quiet) as view:
        folder, outcome = operations.search(
            space,
            settings,
            runs_dir=runs_dir,
            name=name,
            source=source,
            devices=devices,
            view=view,
            address=address,
            storage=storage,
            warm_start=None if warm_start is None else str(Path(warm_start)),
            log=log,
            command=command,
        )
    _raise_unless_done(folder, outcome)
    return Run(folder.path)


def _changes(space: str | Path | None, overrides: Overrides, accepted: bool) -> Wishes:
    return Wishes(space=None if space is None else str(space), overrides=as_texts(overrides), accepted=accepted)


def _go_on(
    run: Run | str | Path,
    wishes: Wishes,
    time_budget: str | float | None,
    source: Source | None,
    devices: DeviceOptions,
    address: str | None,
    quiet: bool,
    log: Sequence[str],
) -> Run:
    folder = open_run(Path(run))
    with _view(quiet) as view:
        outcome = operations.resume(
            folder,
            devices=devices,
            view=view,
            source=source,
            time_budget=time_budget,
            wishes=wishes,
            address=address,
            log=log,
        )
    _raise_unless_done(folder, outcome)
    return _reported(folder.path)


def _raise_unless_done(folder: RunFolder, outcome: Outcome) -> None:
    if outcome.bug:
        raise SearchFailed(outcome.bug)
    if outcome.interrupted:
        raise KeyboardInterrupt(f"nothing is lost; go on with: search.resume({str(folder.path)!r})")


def _reported(path: Path) -> Run:
    reports.write(path)
    return Run(path)


def _source(data_dir: Path | str | None, download: bool) -> Source | None:
    """Where the data lies; None: where the run says."""
    return None if data_dir is None else Source(Path(data_dir), download)


def _view(quiet: bool) -> View:
    from rich.console import Console

    return make_view(Console(highlight=False), quiet)


def _one_ray() -> AbstractContextManager[None]:
    """One Ray for search and retraining. A Ray that a notebook started itself is left running."""
    ray = sys.modules.get("ray")  # imported by us it would come without our settings
    return nullcontext() if ray is not None and ray.is_initialized() else ray_kept()


def checked(function: str, options: dict[str, Any], known: type) -> dict[str, Any]:
    """The options, held against the schema: on the command line click has done that."""
    names = sorted(get_type_hints(known))
    for key in options:
        if key not in names:
            raise InputError(f"{function}: no setting {key!r}{nearest(key, names)}; there are {', '.join(names)}")
    if not isinstance(seed := options.get("seed", 0), int) or seed < 0:
        raise InputError(f"{function}: seed={seed!r}: must be a whole number of at least 0")
    try:
        for schema in (SearchSettings, RetrainSettings):
            schema.model_validate({k: v for k, v in options.items() if k in schema.model_fields and v is not None})
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(f"{function}: {problem['loc'][0]}={problem['input']!r}: {problem['msg']}") from error
    return options
