"""Winnow from Python: the functions that look at runs and use what they found. Only `plan` and `bench_recipes` start Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from winnow import reports
from winnow.search.api.command_line import Overrides, as_texts
from winnow.search.api.run import Run
from winnow.search.api.searching import ALL_DEVICES, SearchOptions, checked, load_space
from winnow.search.resources.plan import DeviceName, DeviceOptions
from winnow.search.settings import settings_for
from winnow.search.storage.run_folder import open_run
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

if TYPE_CHECKING:
    import pandas as pd

    from winnow.search.data.prepare import Prepared
    from winnow.search.operations.planning import SearchPlan
    from winnow.search.operations.rerunning import Rerun
    from winnow.search.winners.predicting import Prediction


def spaces() -> dict[str, str]:
    """What the catalog has: the name of each space and recipe, and what it is."""
    return dict(catalog.listing())


def prepare(
    dataset: str | Path, overrides: Overrides = (), *, data_dir: Path | str = "data", offline: bool = False
) -> Prepared:
    """Download, convert and check a data set (or that of a space) once per machine, as `winnow prepare` does."""
    from winnow.search.data.prepare import prepare as prepare_data

    return prepare_data(str(dataset), as_texts(overrides), Path(data_dir), offline)


def plan(
    space: Space | str | Path,
    overrides: Overrides = (),
    *,
    probe: bool = True,
    data_dir: Path | str = "data",
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    **options: Unpack[SearchOptions],
) -> SearchPlan:
    """What a search will do, without running it, as `winnow plan` does; `probe`: train for seconds to estimate time and memory."""
    from winnow.search.data.source import Source
    from winnow.search.operations.planning import plan_search
    from winnow.search.operations.planning import probe as measure

    loaded = load_space(space, overrides)
    settings = settings_for(loaded, **checked("plan", dict(options), SearchOptions))
    planned = plan_search(settings)
    if not probe:
        return planned
    source = Source(Path(data_dir), download)
    estimate = measure(loaded, settings, planned, devices, source, address, lambda text: None)
    return replace(planned, estimate=estimate)


def show(
    run: Run | str | Path, *, trial: int | None = None, where: str | None = None, sort: str | None = None, top: int = 10
) -> None:
    """Print a run, the trials for which `where` holds, or all about one trial, as `winnow show` does."""
    from winnow.reports.tables.filters import select
    from winnow.reports.text.one_trial import show_trial
    from winnow.reports.text.terminal import show as show_run

    data = reports.read_tables(open_run(Path(run)).path)
    console = _console()
    if trial is not None:
        show_trial(data, console, trial)
    elif where is None and sort is None:
        show_run(data, console, top)
    else:
        show_run(data, console, top, select(data.trials, where, sort))


@dataclass(frozen=True)
class Comparison:
    """Runs held against the first of them."""

    runs: pd.DataFrame
    """One row per run: trials, cost, the winner's test accuracy, its difference to the first run's with a 95 % interval."""
    protocol_differences: list[dict[str, Any]]
    """`key` and `values`: why the runs cannot be compared; empty if they can."""

    @property
    def comparable(self) -> bool:
        """Whether all runs had the same protocol."""
        return not self.protocol_differences

    def _repr_html_(self) -> str:
        if self.comparable:
            return str(self.runs.to_html(index=False, na_rep="", border=0))
        items = []
        for row in self.protocol_differences:
            told = (f"{value} ({name})" for name, value in zip(self.runs["run"], row["values"], strict=True))
            items.append(f"<li>{escape(row['key'])}: {escape(', '.join(told))}</li>")
        return f"<p>These runs cannot be compared; they differ in</p><ul>{''.join(items)}</ul>"


def compare(*runs: Run | str | Path) -> Comparison:
    """Hold the winners of two or more runs against the first one's, as `winnow compare` does."""
    import pandas as pd

    from winnow.reports.text.compare import comparison, protocol_differences

    if len(runs) < 2:
        raise InputError(f"compare: two runs or more are needed, but got {len(runs)}")
    read = [reports.read_tables(open_run(Path(run)).path) for run in runs]
    return Comparison(pd.DataFrame(comparison(read)), protocol_differences(read))


def train(
    recipe: Space | str | Path,
    overrides: Overrides = (),
    *,
    seed: int = 0,
    output: Path | str | None = None,
    resume: bool = False,
    device: DeviceName = "auto",
    threads: int | None = None,
    fit_validation: bool = False,
    micro_batches: int = 1,
    data_dir: Path | str = "data",
    download: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Train one recipe without Ray and test it once, as `winnow train` does; the final figures (as in `result.json`).

    `fit_validation`: train on the validation images too, as when a winner is retrained.
    """
    from winnow.search.data.source import Source
    from winnow.search.operations.training import train_recipe

    return train_recipe(
        load_space(recipe, overrides),
        seed=seed,
        output=None if output is None else Path(output),
        resume=resume,
        device=device,
        threads=threads,
        source=Source(Path(data_dir), download),
        console=_console(quiet),
        fit_validation=fit_validation,
        micro_batches=micro_batches,
    )


def rerun(
    run: Run | str | Path,
    trial: int,
    *,
    device: DeviceName | None = None,
    threads: int | None = None,
    data_dir: Path | str | None = None,
    download: bool = False,
) -> Rerun:
    """Train a trial again and compare it epoch by epoch with what was recorded, as `winnow rerun` does."""
    from winnow.search.data.source import Source
    from winnow.search.operations.rerunning import rerun as train_again

    source = None if data_dir is None else Source(Path(data_dir), download)
    return train_again(open_run(Path(run)), trial, source, device, threads)


def export(
    run: Run | str | Path, winner: int = 1, output: Path | str | None = None, *, weights_only: bool = False
) -> Path:
    """Write a winner as a folder to use elsewhere, as `winnow export` does; the folder."""
    from winnow.search.winners.exporting import export as write

    return write(open_run(Path(run)), winner, None if output is None else Path(output), weights_only)


def predict(folder: str | Path, images: str | Path | Sequence[str | Path]) -> list[Prediction]:
    """The class of each image (files, or folders of them) by an exported winner, as `winnow predict` does.

    A file that is no image has a `Prediction` with an `error`. For arrays: `load_winner(run).predict(images)`.
    """
    from winnow.search.winners.predicting import predict as predict_files

    files = [images] if isinstance(images, str | Path) else images
    return predict_files(Path(folder), [Path(file) for file in files])


def bench_recipes(
    recipes: Sequence[str],
    overrides: Sequence[str] = (),
    *,
    seeds: int = 1,
    output: Path | str = "runs/bench-recipes",
    data_dir: Path | str = "data",
    download: bool = False,
    devices: DeviceOptions = ALL_DEVICES,
    address: str | None = None,
    quiet: bool = False,
) -> Path:
    """Train recipes as published, beside their published figures, as `winnow bench-recipes` does; the table.

    What failed stands in the table, and is tried again by the next call.
    """
    from winnow.search.data.source import Source
    from winnow.search.operations.reproduction import bench_recipes as bench
    from winnow.search.views.plain import make_view

    source = Source(Path(data_dir), download)
    with make_view(_console(), quiet) as view:
        table, _ = bench(
            recipes,
            overrides,
            seeds=seeds,
            output=Path(output),
            source=source,
            devices=devices,
            view=view,
            address=address,
        )
    return table


def _console(quiet: bool = False) -> Any:
    from rich.console import Console

    return Console(highlight=False, quiet=quiet)
