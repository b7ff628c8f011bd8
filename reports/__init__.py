"""Reports of runs: Parquet tables, a terminal view and one HTML file. Importing this package imports nothing heavy."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from winnow.reports.run_data import RunData

__all__ = [
    "RunData",
    "is_training",
    "read",
    "read_runs",
    "read_tables",
    "select",
    "show",
    "winners_table",
    "write",
    "write_dataset",
    "write_training",
]


@contextmanager
def _without_collector() -> Iterator[None]:
    """Switch off the garbage collector: none of the millions of objects of a long run is garbage, and searching takes 10 % of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collector()
def read(run: Path | str) -> RunData:
    """Read a run at any time: during the search, after a crash, before retraining.

    `reports.read("runs/first").trials` is an Arrow table, `.trials.to_pandas()` a data frame.

    Args:
        run: A run folder, or only the `report` folder of a run, which an older Winnow may have written.

    Returns:
        The run. Torn last lines are left out and mentioned in its `notes`.

    Raises:
        InputError: `run` is neither, or a newer Winnow wrote it.
    """
    from winnow.reports.open_run import read as read_run

    return read_run(run)


def read_tables(run: Path | str) -> RunData:
    """Read a run like `read`, but from the Parquet files of its report if the run has not changed since they were written.

    Args:
        run: As for `read`.

    Returns:
        The run, with the same tables as `read` gives.

    Raises:
        InputError: As for `read`.
    """
    from winnow.reports.reading.parquet_reader import read_current

    return read_current(Path(run)) or read(run)


def read_runs(folder: Path | str, table: str = "trials") -> pa.Table:
    """Read one table of all runs under a folder; the column `run` distinguishes them.

    Args:
        folder: A folder of runs, such as `runs/`.
        table: Name of the table, a key of `winnow.reports.schemas.TABLES`. Default: `trials`.

    Returns:
        An Arrow table. A parameter is null for runs that do not have it.

    Raises:
        InputError: There is no run under `folder`, or no such table.
    """
    from winnow.reports.many_runs import read_runs as read_all

    return read_all(Path(folder), table)


def write_dataset(folder: Path | str, output: Path | str) -> None:
    """Write all runs under a folder as one data set, partitioned by `run`: `output`/trials/run=NAME/*.parquet, and so on.

    Args:
        folder: A folder of runs, such as `runs/`.
        output: The folder of the data set. A run that it already contains is replaced; other runs stay.

    Raises:
        InputError: There is no run under `folder`.
    """
    from winnow.reports.many_runs import write_dataset as write_all

    write_all(Path(folder), Path(output))


@_without_collector()
def write(run: Path | str) -> Path:
    """Write `report/*.parquet`, `report/winner.yaml` and `report/report.html` into a run folder.

    Args:
        run: A run folder. The run may still be in progress.

    Returns:
        The HTML file.

    Raises:
        InputError: There is no run, a newer Winnow wrote it, or the report cannot be written.
    """
    from winnow.reports.writing import write as write_report

    return write_report(Path(run))


def is_training(folder: Path | str) -> bool:
    """Return whether a folder holds a single training, as `winnow train --output` and `winnow bench-recipes` write it.

    Args:
        folder: The folder, which need not exist.
    """
    return all((Path(folder) / name).is_file() for name in ("config.yaml", "epochs.jsonl"))


def write_training(folder: Path | str) -> Path:
    """Write report.html, epochs.parquet and best_epochs.md into the folder of a single training.

    Args:
        folder: A folder as `winnow train --output` writes it. The training may still be running.

    Returns:
        The HTML file.

    Raises:
        InputError: The folder holds no training, no epoch has finished yet, or the files cannot be written.
    """
    from winnow.reports.html.training_page import write_training as write_one

    return write_one(Path(folder))


def show(run: Path | str, console: Console, top: int = 10) -> None:
    """Print a run with its best trials. Imports neither torch nor plotly nor pandas.

    Args:
        run: As for `read`.
        console: Where to print.
        top: Maximum number of trials to print. Default: 10.

    Raises:
        InputError: As for `read`.
    """
    from winnow.reports.text.terminal import show as show_run

    show_run(read_tables(run), console, top)


def select(run: Path | str, where: str | None = None, sort: str | None = None) -> list[dict[str, Any]]:
    """Select rows of the table `trials`.

    Args:
        run: As for `read`.
        where: A condition, such as `optimizer.name == 'sgd' and optimizer.lr > 0.01`. Default: all trials.
        sort: A column to sort by, with a leading minus for descending order. Default: by number.

    Returns:
        One dict per trial, keyed by column.

    Raises:
        InputError: As for `read`, or if `where` or `sort` cannot be parsed or names an unknown column.
    """
    from winnow.reports.tables.filters import select as select_rows

    return select_rows(read_tables(run).trials, where, sort)


def winners_table(run: Path | str) -> list[dict[str, Any]]:
    """Return the retrained configs with their test accuracies.

    Args:
        run: As for `read`.

    Returns:
        One dict per config, winners by rank and the baseline last, with the columns of the table `winners` except those of
        the parameters; empty before retraining. Accuracies, gains and gaps are fractions.

    Raises:
        InputError: As for `read`.
    """
    return read_tables(run).winner_rows()


def __getattr__(name: str) -> Any:
    if name == "RunData":
        from winnow.reports.run_data import RunData

        return RunData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
