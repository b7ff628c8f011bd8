"""What came out of a run: Parquet tables, a terminal view and one HTML file. Importing this costs nothing."""

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
    """Of the millions of objects of a long run none is garbage: looking for some takes a tenth of a report's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_collector()
def read(run: Path | str) -> RunData:
    """Read a run at any time: during it, after a crash, before any retrain; or its report folder alone, also of an older version.

    `reports.read("runs/first").trials` is an Arrow table, `.trials.to_pandas()` a data frame. InputError where there is no run.
    """
    from winnow.reports.open_run import read as read_run

    return read_run(run)


def read_tables(run: Path | str) -> RunData:
    """As `read`, for its tables alone: from the Parquet files of its report where that is of exactly the run as it is now."""
    from winnow.reports.reading.parquet_reader import read_current

    return read_current(Path(run)) or read(run)


def read_runs(folder: Path | str, table: str = "trials") -> pa.Table:
    """A table of all runs under `folder` (`runs/`) as one, told apart by the column `run`."""
    from winnow.reports.many_runs import read_runs as read_all

    return read_all(Path(folder), table)


def write_dataset(folder: Path | str, output: Path | str) -> None:
    """All runs under `folder` as one data set, partitioned by `run`: `output`/trials/run=NAME/*.parquet, and so on."""
    from winnow.reports.many_runs import write_dataset as write_all

    write_all(Path(folder), Path(output))


@_without_collector()
def write(run: Path | str) -> Path:
    """Write `report/*.parquet`, `report/winner.yaml` and `report/report.html` into a run folder; returns the HTML file."""
    from winnow.reports.writing import write as write_report

    return write_report(Path(run))


def is_training(folder: Path | str) -> bool:
    """Whether a folder is what `winnow train --output` writes (or a part of what `bench-recipes` writes)."""
    return all((Path(folder) / name).is_file() for name in ("config.yaml", "epochs.jsonl"))


def write_training(folder: Path | str) -> Path:
    """Write report.html, epochs.parquet and best_epochs.md of a single training into its folder; returns the HTML file."""
    from winnow.reports.html.training_page import write_training as write_one

    return write_one(Path(folder))


def show(run: Path | str, console: Console, top: int = 10) -> None:
    """Print a run with its `top` best trials; imports neither torch nor plotly nor pandas."""
    from winnow.reports.text.terminal import show as show_run

    show_run(read_tables(run), console, top)


def select(run: Path | str, where: str | None = None, sort: str | None = None) -> list[dict[str, Any]]:
    """Rows of the table `trials`: those for which `where` holds (`optimizer.name == 'sgd'`), in the order of column `sort`."""
    from winnow.reports.tables.filters import select as select_rows

    return select_rows(read_tables(run).trials, where, sort)


def winners_table(run: Path | str) -> list[dict[str, Any]]:
    """One dict per retrained config, winners by rank and the baseline last, keyed as the table `winners`."""
    return read_tables(run).winner_rows()


def __getattr__(name: str) -> Any:
    if name == "RunData":
        from winnow.reports.run_data import RunData

        return RunData
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
