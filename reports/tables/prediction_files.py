"""Writes predictions to a CSV, JSON or Parquet file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from winnow.reports.durable import write_whole
from winnow.spaces.errors import InputError

Row = dict[str, Any]

COLUMNS = ("file", "rank", "class", "probability", "error")
"""Columns of the file. It has one row per image file and rank (1 is the most probable class), or one row with the error."""


def check_output(path: Path) -> None:
    """Check that predictions can be written to a file.

    Raises:
        InputError: The ending of the file is not one of WRITERS, or its folder does not exist.
        OSError: The name is too long.
    """
    if path.suffix.lower() not in WRITERS:
        raise InputError(f"--output {path}: must end in {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise InputError(f"--output {path}: there is no folder {path.parent}")
    with suppress(FileNotFoundError):
        path.lstat()


def write_predictions(rows: Sequence[Row], path: Path) -> None:
    """Write rows with the columns `COLUMNS`.

    Args:
        rows: The predictions.
        path: The file, whose ending determines the format.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        write_whole(path, lambda part: WRITERS[path.suffix.lower()](rows, part))
    except OSError as error:
        raise InputError(f"--output {path}: cannot be written ({error.strerror or error})") from error


def _write_csv(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def _write_json(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps(list(rows), indent=1), encoding="utf-8")


def _write_parquet(rows: Sequence[Row], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = (pa.string(), pa.int64(), pa.string(), pa.float64(), pa.string())
    pq.write_table(pa.Table.from_pylist(list(rows), pa.schema(list(zip(COLUMNS, kinds, strict=True)))), path)


WRITERS: dict[str, Callable[[Sequence[Row], Path], None]] = {
    ".csv": _write_csv,
    ".json": _write_json,
    ".parquet": _write_parquet,
}
