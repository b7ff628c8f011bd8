"""Generates docs/reports.md from the schemas; a test fails if the page is out of date. Run `python -m docs.generate.reports`."""

from __future__ import annotations

from pathlib import Path

from winnow.reports.schemas import KINDS, SCHEMA_VERSION, TABLES, Column, TableSchema

DOCS_FILE = Path(__file__).resolve().parents[1] / "reports.md"

_INTRODUCTION = f"""# Reports

This page is generated from `reports/schemas/` by `python -m docs.generate.reports`.

`winnow report RUN` writes `RUN/report/` at any time: during a run, after a crash, before retraining. `winnow run` writes it at the end.

- `report.html`: a single file that opens without a network.
- `winner.yaml`: the winner's complete config, a recipe that `winnow train` accepts.
- One Parquet file per table below: {", ".join(f"`{name}`" for name in TABLES)}.

Every table has all of its columns in every run, even if it has no rows. Each parameter of the space is a column named by its
config path, such as `optimizer.lr`. The domain determines its type, and it is null for trials in which the parameter was not active.

The metadata of each file contains:

- `winnow.schema_version` (currently {SCHEMA_VERSION}), `winnow.table` and `winnow.run`.
- `winnow.space` and `winnow.provenance` (settings, data fingerprint, versions, hardware), both as JSON.
- `winnow.source`: sizes and SHA-256 digests of the files of the run from which the tables were made. For a long run,
  `winnow show` reads the tables instead of the run as long as these files are unchanged.

The HTML file shows only what these tables contain: a test makes it from the Parquet files alone and compares the two.

## Reading

pandas, Polars, DuckDB and pyarrow read the files directly and give equal values. [queries.md](queries.md) has ready-made queries for
the first three. DuckDB needs the package `pytz` to return times to Python.

```python
import pandas as pd

trials = pd.read_parquet("runs/first/report/trials.parquet")
print(trials.sort_values("objective", ascending=False).head())
```

`reports.read` takes a run folder, with or without a report, and reads its current state; or it takes a report folder alone:

```python
from winnow import reports

run = reports.read("runs/first")
run.trials  # an Arrow table; run.epochs, run.winners, run.predictions, run.table("failures")
run.trials.to_pandas()
reports.read("runs/first/report").winners  # from the Parquet files alone
```

It also reads tables of older versions and fills in columns that were added later. It refuses a run or a report of a newer version.
If a run was interrupted, it returns everything that is complete and lists the rest in `run.notes`.

Several runs can be read as one data set; the column `run` distinguishes them:

```python
from winnow import reports

reports.read_runs("runs", "winners").to_pandas()  # an Arrow table of all of them
reports.write_dataset("runs", "all-runs")  # all-runs/trials/run=first/part-0.parquet, and so on for every table
```

`pd.read_parquet("all-runs/trials")`, `pl.read_parquet("all-runs/trials/**/*.parquet")` and `from read_parquet('all-runs/trials/**/*.parquet')`
read that layout (Hive partitioning) with `run` as a column. A table without rows has no folder there.

## Definitions

- **95 % interval**: for another set of seeds and of test images at once, from a two-way analysis of variance (seeds, images); a gain pairs the images.
  Of a share, Wilson's interval at the effective number of images. Without predictions, and for a metric of your own, over the seeds alone. The
  calibration error is biased upwards on small test sets; its interval does not correct that.
- **objective**: the metric that the search was for; `environment` says which. For a stopped trial it is the value at its stop. `test_objective` of
  `winners` is the same metric on the test images.
- **importance**: fANOVA over the trials in which the parameter was active, without failed trials; `num_trials` is their number.
- **GPU-hours**: `wall_seconds * gpus / 3600`, summed over `epochs`. On a machine without GPUs the report shows CPU-hours, from `cpus`.
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
            "| *config path* | by its domain | | value of this parameter of the space | the parameter was not active |"
        )
    return "\n".join(lines) + "\n"


def _row(column: Column) -> str:
    return f"| `{column.name}` | {KINDS[column.kind]} | {column.unit} | {column.meaning} | {column.null or 'never'} |"


if __name__ == "__main__":
    DOCS_FILE.parent.mkdir(exist_ok=True)
    DOCS_FILE.write_text(markdown(), encoding="utf-8")
