"""Opens a run from its folder, or from its report folder only."""

from __future__ import annotations

from pathlib import Path

from winnow.reports.reading.run import read_records
from winnow.reports.run_data import RunData
from winnow.reports.tables.from_folder import FromFolder


def read(path: Path | str) -> RunData:
    """Read a run from its folder, or from its report folder only.

    Args:
        path: A run folder (with study.yaml), or the `report` folder of a run.

    Returns:
        The run. Torn last lines are left out and mentioned in its `notes`.

    Raises:
        InputError: `path` is neither, or its study.yaml is damaged or was written by a newer Winnow.
    """
    path = Path(path)
    if (path / "trials.parquet").is_file() and not (path / "study.yaml").is_file():
        from winnow.reports.reading.parquet_reader import read_report

        return read_report(path)
    records = read_records(path)
    return RunData(path=path, study=records.study, notes=records.notes, source=FromFolder(records))
