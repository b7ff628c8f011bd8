"""Writes the whole report of a run folder."""

from __future__ import annotations

from pathlib import Path

import yaml

from winnow.reports.html.page import page
from winnow.reports.open_run import read
from winnow.reports.reading.parquet_reader import fingerprint
from winnow.reports.tables.parquet import write_tables, write_whole
from winnow.reports.text.winner_recipe import winner_config
from winnow.spaces.errors import InputError


def write(path: Path) -> Path:
    """Write the tables, the winner's config and the HTML file into `path`/report.

    Each file appears complete or not at all.

    Args:
        path: A run folder.

    Returns:
        The HTML file.

    Raises:
        InputError: There is no run in the folder, or the report cannot be written.
    """
    # Taken before reading: lines that the search appends meanwhile then count as not yet reported.
    source = fingerprint(path)
    run = read(path)
    folder = path / "report"
    try:
        write_tables(run, folder, source)
        config = winner_config(run)
        if config is not None:
            text = yaml.safe_dump(config, sort_keys=False)
            write_whole(folder / "winner.yaml", lambda part: part.write_text(text, encoding="utf-8"))
        html = folder / "report.html"
        write_whole(html, lambda part: part.write_text(page(run), encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return html
