"""Makes docs/reports.md from the schemas: `python -m docs.generate.reports` writes it, a test holds the two equal."""

from __future__ import annotations

from pathlib import Path

from winnow.reports.schemas import KINDS, SCHEMA_VERSION, TABLES, Column, TableSchema

DOCS_FILE = Path(__file__).resolve().parents[1] / "reports.md"

_INTRODUCTION = f"""# Reports

This page is made from `reports/schemas.py` by `python -m docs.generate.reports`.

`winnow report RUN` writes `RUN/report/` at any time: during a run, after a crash, before any retraining. `winnow run` ends with it.

- `report.html`: one file that opens without a network.
- `winner.yaml`: the winner's whole config, a recipe that `winnow train` accepts.
- one Parquet file per table below: {", ".join(f"`{name}`" for name in TABLES)}.

Every table has all of its columns in every run, also where it has no rows. The file metadata holds `winnow.schema_version` (now
{SCHEMA_VERSION}), `winnow.table`, `winnow.run`, as JSON `winnow.space` and `winnow.provenance` (settings, data fingerprint, versions, hardware), and
`winnow.source`: sizes and SHA-256 of the files of the run that the tables were made from. Of a long run `winnow show` reads the tables instead of
the run as long as these files are still the same, byte for byte.
A parameter of the space is a column named by its config path, such as `optimizer.lr`, typed by its domain, and null where the
parameter was not active in that trial.

The HTML file shows nothing that these tables do not hold: a test makes it from the Parquet files alone and holds the two equal.

## Reading

pandas, Polars, DuckDB and pyarrow read the files as they are and give equal values. Ready queries for the first three: [queries.md](queries.md).
DuckDB wants the package `pytz` to hand times to Python.

```python
import pandas as pd

trials = pd.read_parquet("runs/first/report/trials.parquet")
print(trials.sort_values("objective", ascending=False).head())
```

`reports.read` takes a run (and reads it as it is now, written report or not) or a report folder alone:

```python
from winnow import reports

run = reports.read("runs/first")
run.trials  # an Arrow table; run.epochs, run.winners, run.predictions, run.table("failures")
run.trials.to_pandas()
reports.read("runs/first/report").winners  # from the Parquet files alone
```

It reads tables of older versions too: columns that came later are filled in. A run or a report of a newer version is refused with
its version and ours. Of a run that was cut short anywhere it gives what is whole, and says in `run.notes` what is not.

Several runs are one data set, told apart by the column `run`:

```python
from winnow import reports

reports.read_runs("runs", "winners").to_pandas()  # an Arrow table of all of them
reports.write_dataset("runs", "all-runs")  # all-runs/trials/run=first/part-0.parquet, and so on for every table
```

`pd.read_parquet("all-runs/trials")`, `pl.read_parquet("all-runs/trials/**/*.parquet")` and `from read_parquet('all-runs/trials/**/*.parquet')`
read that layout, called hive, with `run` as a column. A table without any rows has no folder there.

## Words

The 95 % interval of a mean is Student's t over the seeds, that of a gain over the baseline is Welch's. `objective` is validation
accuracy or validation loss, as `environment` says; a stopped trial's is of the epoch at which it was stopped. Importance is fANOVA
over the trials in which the parameter was active, failed ones left out; `num_trials` says how many these were. GPU-hours are
`wall_seconds * gpus / 3600` summed over `epochs`; on a machine without GPUs the report shows CPU-hours, by `cpus`.
"""


def markdown() -> str:
    """The whole page."""
    return _INTRODUCTION + "".join(_table(name, schema) for name, schema in TABLES.items())


def _table(name: str, schema: TableSchema) -> str:
    lines = [f"\n## {name}\n", f"One row: {schema.row}.\n"]
    lines += ["| column | type | unit | meaning | null when |", "|---|---|---|---|---|"]
    lines += [_row(column) for column in schema.columns]
    if schema.parameters:
        lines.append(
            "| *config path* | by its domain | | value of the parameter of the space | the parameter was not active |"
        )
    return "\n".join(lines) + "\n"


def _row(column: Column) -> str:
    return f"| `{column.name}` | {KINDS[column.kind]} | {column.unit} | {column.meaning} | {column.null or 'never'} |"


if __name__ == "__main__":
    DOCS_FILE.parent.mkdir(exist_ok=True)
    DOCS_FILE.write_text(markdown(), encoding="utf-8")
