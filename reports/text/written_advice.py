"""Keeps the first advice of a report in a file for `winnow show`, since finding it needs Arrow and the space of the run."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from winnow.reports.durable import write_whole
from winnow.reports.reading.parquet_reader import is_unchanged
from winnow.reports.text.next_step import Advice

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData

FILE = "advice.json"


def write_advice(advice: Advice, run: RunData, folder: Path, source: str) -> None:
    """Write the first advice about a run.

    Args:
        advice: The advice.
        run: The run.
        folder: The folder of its report.
        source: What `fingerprint` returns for the run.
    """
    text = json.dumps({"run": str(run.path), "source": json.loads(source), "advice": asdict(advice)})
    write_whole(folder / FILE, lambda part: part.write_text(text, encoding="utf-8"))


def written_advice(run: RunData) -> Advice | None:
    """Return the first advice of the report of a run.

    Args:
        run: The run.

    Returns:
        The advice; None if there is none, if the run has changed since, or if the path in its command does not lead to the run from
        the working directory.
    """
    try:
        content = json.loads((run.path / "report" / FILE).read_text(encoding="utf-8"))
        if Path(content["run"]).resolve() == run.path.resolve() and is_unchanged(run.path, content["source"]):
            return Advice(**content["advice"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no report yet, or a damaged one, which `winnow report` writes again
    return None
