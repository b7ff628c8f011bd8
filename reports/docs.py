"""Makes docs/reports.md from the schemas: `python -m reports.docs` writes it, a test holds the two equal."""

from __future__ import annotations

from pathlib import Path

from reports.schemas import KINDS, SCHEMA_VERSION, TABLES, Column, TableSchema

DOCS_FILE = Path(__file__).resolve().parents[1] / "docs" / "reports.md"

_INTRODUCTION = f"""# Reports

This page is made from `reports/schemas.py` by `python -m reports.docs`.

`winnow report RUN` writes `RUN/report/` at any time: during a run, after a crash, before any retraining. `winnow run` ends with it.

- `report.html`: one file that opens without a network.
- `winner.yaml`: the winner's whole config, a recipe that `winnow train` accepts.
- one Parquet file per table below: {", ".join(f"`{name}`" for name in TABLES)}.

Every table has all of its columns in every run, also where it has no rows; `schema_version` is {SCHEMA_VERSION}. The file metadata
holds `winnow.schema_version`, `winnow.table`, `winnow.run` and `winnow.provenance` (settings, data fingerprint, versions and hardware
as JSON). A parameter of the space is a column named by its config path, such as `optimizer.lr`, typed by its domain, and null where the
parameter was not active in that trial.

## Reading

```python
import pandas as pd

trials = pd.read_parquet("runs/demo/report/trials.parquet")
trials.sort_values("objective", ascending=False).head()
```

The best trial of each optimizer:

```sql
SELECT "optimizer.name", max(objective) AS best, count(*) AS trials
FROM 'runs/demo/report/trials.parquet' GROUP BY 1 ORDER BY best DESC;
```

What a minute of training bought, by rung:

```sql
SELECT rung, epoch, num_reached, best_objective, train_seconds / 60 AS minutes
FROM 'runs/demo/report/rungs.parquet' ORDER BY rung;
```

The effect of dropout at a fixed depth:

```sql
SELECT "model.depth", round("model.dropout", 1) AS dropout, avg(objective) AS mean, count(*) AS trials
FROM 'runs/demo/report/trials.parquet' WHERE status = 'completed' GROUP BY 1, 2 ORDER BY 1, 2;
```

Winners of several runs:

```sql
SELECT run, rank, test_accuracy, test_accuracy_low, test_accuracy_high, gain
FROM read_parquet('runs/*/report/winners.parquet', union_by_name = true) ORDER BY test_accuracy DESC;
```

## Words

The 95 % interval of a mean is Student's t over the seeds, that of a gain over the baseline is Welch's. `objective` is validation
accuracy or validation loss, as `environment` says; a stopped trial's is of the epoch at which it was stopped. Importance is fANOVA
over the trials in which the parameter was active, failed ones left out; `num_trials` says how many these were.
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
