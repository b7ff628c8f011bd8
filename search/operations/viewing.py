"""Shows a run, compares several runs, and writes the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow import reports
from winnow.reports.masking import without_secrets
from winnow.search.storage.remote import is_uri, join
from winnow.search.storage.run_folder import open_run, prints_name, retraining_prints_name
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from rich.console import Console

    from winnow.reports import RunData


def show(
    run: Path | str,
    console: Console,
    *,
    trial: int | None = None,
    where: str | None = None,
    sort: str | None = None,
    top: int = 10,
) -> None:
    """Print a run, some of its trials, or everything about one trial.

    Args:
        run: The run folder, or its name under `runs/`.
        console: Console to print to.
        trial: Number of the only trial to show, from 0. Default: the whole run is shown.
        where: Condition on columns of `trials.parquet`, such as `optimizer.name == 'sgd'`. Default: all trials.
        sort: Column to sort by, or `-COLUMN` for descending order. Default: the objective.
        top: Number of trials to list, at least 1. Default: 10.

    Raises:
        InputError: There is no such run, trial or column.
    """
    from winnow.reports.tables.filters import named_columns, select
    from winnow.reports.text.one_trial import show_trial
    from winnow.reports.text.terminal import Chosen
    from winnow.reports.text.terminal import show as show_run

    data = reports.read_tables(open_run(run).path)
    if trial is not None:
        show_trial(data, console, trial, partial(_prints_of, data))
    elif where is None and sort is None:
        show_run(data, console, top)
    else:
        trials = select(data.trials, where, sort)
        show_run(data, console, top, Chosen(trials, named_columns(data.trials, where, sort), sort))


def _prints_of(run: RunData, trial: int, retraining: str | None) -> str | None:
    """Return the path of what a model printed in a training, or None if there is none; a URI is returned without asking there."""
    name = prints_name(trial) if retraining is None else retraining_prints_name(retraining)
    where = join(str(run.study.get("storage") or run.path), "checkpoints", name)
    if is_uri(where):
        return f"{without_secrets(where)} (if anything was printed)"
    return where if Path(where).is_file() else None


@dataclass(frozen=True)
class Comparison:
    """A comparison of several runs with the first of them."""

    rows: list[dict[str, Any]]
    """One dict per run: trials, cost, the winner's test accuracy, and its difference from that of the first run with a 95 % interval."""
    protocol_differences: list[dict[str, Any]]
    """The reasons why the runs cannot be compared, each with `key` and `values`; empty if they can."""
    data: Sequence[RunData] = field(repr=False, default=())
    """The runs themselves."""

    @property
    def runs(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def comparable(self) -> bool:
        """Whether all runs have the same protocol: images, split, epochs, objective and retraining."""
        return not self.protocol_differences

    def _repr_html_(self) -> str:
        if self.comparable:
            return str(self.runs.to_html(index=False, na_rep="", border=0))
        from winnow.reports.html.templating import render

        differences = []
        for row in self.protocol_differences:
            values = (f"{value} ({run['run']})" for run, value in zip(self.rows, row["values"], strict=True))
            differences.append(f"{row['key']}: {', '.join(values)}")
        return render("not_comparable.html", differences=differences)


def compare(runs: Sequence[Path | str]) -> Comparison:
    """Compare the winners of two or more runs with the winner of the first.

    Args:
        runs: Run folders, or their names under `runs/`.

    Raises:
        InputError: There are fewer than two runs, or one of the folders is not a run.
    """
    from winnow.reports.text.compare import comparison, winner_differences

    if len(runs) < 2:
        raise InputError(f"compare: needs at least two runs, but got {len(runs)}")
    data = [reports.read_tables(open_run(run).path) for run in runs]
    return Comparison(comparison(data), winner_differences(data), data)


def report(run: Path | str) -> Path:
    """Write the report of a run, or of a training by `winnow train --output`, and return the path of the HTML file.

    Raises:
        InputError: The folder is neither a run nor a training.
    """
    return reports.write_training(run) if reports.is_training(run) else reports.write(open_run(run).path)


def query(run: Path | str, sql: str) -> pa.Table:
    """Run one SQL query on the tables of a run, or of a training by `winnow train --output`.

    Args:
        run: The folder, or the name of a run under `runs/`.
        sql: The query, in DuckDB's SQL.

    Returns:
        The result as an Arrow table.

    Raises:
        InputError: The folder is neither, DuckDB is not installed, or it rejects the query.
    """
    from winnow.reports.reading.training import read_training
    from winnow.reports.tables.query import query as query_run
    from winnow.reports.tables.query import query_training

    if reports.is_training(run):
        return query_training(read_training(Path(run)), sql)
    return query_run(reports.read_tables(open_run(run).path), sql)
