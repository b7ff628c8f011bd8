"""Generates docs/reports.md from the schemas; a test fails if the page is out of date. Run `python -m docs.generate.reports`."""

from __future__ import annotations

import textwrap
from pathlib import Path

from winnow.reports.schemas import KINDS, SCHEMA_VERSION, TABLES, Column, TableSchema

DOCS_FILE = Path(__file__).resolve().parents[1] / "reports.md"

_TABLE_NAMES = textwrap.fill(", ".join(f"`{name}`" for name in TABLES), 120, subsequent_indent="  ")
_INTRODUCTION = f"""# Reports

This page is generated from `reports/schemas/` by `python -m docs.generate.reports`.

`winnow report RUN` writes the folder `RUN/report/`. It works at any time: during a run, after a crash, or before retraining. `winnow run`
writes the same folder at the end. The folder contains:

- `report.html`: the report as a single file. It needs no network connection.
- `winner.yaml`: the complete config of the winner. `winnow train` accepts it as a recipe.
- `advice.json`: the first advice with its command, which `winnow show` prints until the run changes.
- One Parquet file for each table below:
  {_TABLE_NAMES}.

Every table has all of its columns in every run, even if it has no rows. Each parameter of the space is a column of `trials` and of
`winners`. The column has the name of the config path, such as `optimizer.lr`, and its type depends on the domain of the parameter. Its value
is null for trials in which the parameter was not active.

The metadata of each file contains:

- `winnow.schema_version` (currently {SCHEMA_VERSION}), `winnow.table` and `winnow.run`.
- `winnow.space` and `winnow.provenance` (settings, data fingerprint, versions, hardware), both as JSON.
- `winnow.source`: the sizes and SHA-256 digests of the files of the run from which the tables were made. As long as these files are
  unchanged, `winnow show` reads the tables of a long run instead of the files.

The HTML file shows only data from these tables. A test generates it from the Parquet files alone and compares the two versions.

## Reading

pandas, Polars, DuckDB and pyarrow read the files directly and return equal values. The page [Ready queries](queries.md) has queries for
pandas, Polars and DuckDB. DuckDB needs the package `pytz` to return times to Python.

```python
import pandas as pd

trials = pd.read_parquet("runs/first/report/trials.parquet")
print(trials.sort_values("objective", ascending=False).head())
```

`reports.read` reads the current state of a run folder, with or without a report. It also reads a report folder without its run:

```python
from winnow import reports

run = reports.read("runs/first")
run.trials  # an Arrow table; run.epochs, run.winners, run.predictions, run.table("failures")
run.trials.to_pandas()
reports.read("runs/first/report").winners  # from the Parquet files alone
```

`reports.read` also accepts tables of older versions, and adds the columns that are missing there. It refuses a run or a report of a newer
version. If a run was interrupted, it returns all data that are complete, and `run.notes` lists the rest.

You can read several runs as one data set. The column `run` contains the name of the run:

```python
from winnow import reports

reports.read_runs("runs", "winners").to_pandas()  # an Arrow table of all of them
reports.write_dataset("runs", "all-runs")  # all-runs/trials/run=first/part-0.parquet, and so on for every table
```

These expressions read this layout (Hive partitioning), with `run` as a column: `pd.read_parquet("all-runs/trials")` in pandas,
`pl.read_parquet("all-runs/trials/**/*.parquet")` in Polars, and `from read_parquet('all-runs/trials/**/*.parquet')` in DuckDB. A table without
rows has no folder there.

## Definitions

- **95 % interval**: the interval accounts for other seeds and for other test images at the same time. It comes from a two-way analysis of
  variance over seeds and images. For a gain, the analysis compares the two configs image by image. For a metric that is a share, it is a
  Wilson interval with the effective number of images. Without predictions (for AUROC and top-5 accuracy: without the probabilities of all
  classes), for your own metric, and for a loss that is not cross-entropy, the interval accounts only for the seeds, and
  `test_objective_images` of `winners` is null. Simulations of how often these intervals contain the true value cover the accuracy with 3, 5
  and 10 seeds and 360 to 10,000 images, and the other metrics in fewer cases: [decision
  0042](decisions/0042-intervals-by-analysis-of-variance.md). The calibration error is biased upwards on small test sets, so its interval
  reaches down to that of an estimate without this bias. With fewer than 360 images it may still lie above the true value.
- **objective**: the metric that the search optimizes. The table `environment` contains its name. For a stopped trial, the objective is its
  value at the time of the stop. The column `test_objective` of `winners` is the same metric on the test images.
- **importance**: the result of fANOVA for the trials in which the parameter was active, without failed trials. `num_trials` is the number of
  these trials. A value that is worse than the worse quartile by more than 1.5 interquartile ranges counts as that limit, so that a loss that
  exploded once does not decide all importances. `values` says whether last values or estimates of the values after the full training are
  explained: [decision 0043](decisions/0043-importance-of-the-end-where-rungs-tell.md).
- **image_name**: the file of an image, or the file and the row of a table or an array. In `predictions` it belongs to a test image, in
  `validation` to a validation image. Both come from the same function. The names of the validation images are kept once in the run, since every
  trial has the same ones.
- **GPU-hours**: the sum of `wall_seconds * gpus / 3600` over the rows of `epochs`. On a machine without GPUs, the report shows CPU-hours,
  which it computes from `cpus`.
"""


def markdown() -> str:
    """Return the whole page."""
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
