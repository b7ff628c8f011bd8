"""Writes the whole report of a run folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from winnow.reports.durable import make_folder, write_whole
from winnow.reports.html.page import page
from winnow.reports.open_run import read
from winnow.reports.reading.parquet_reader import fingerprint
from winnow.reports.tables.parquet import write_tables
from winnow.reports.text.advice import advice
from winnow.reports.text.winner_recipe import winner_config
from winnow.reports.text.written_advice import write_advice
from winnow.spaces.errors import InputError

if TYPE_CHECKING:
    from winnow.reports.run_data import RunData


def write(path: Path) -> Path:
    """Write the tables, the winner's config, the space, the first advice and the HTML file into `path`/report.

    Each file appears complete or not at all.

    Args:
        path: A run folder.

    Returns:
        The HTML file.

    Raises:
        InputError: There is no run in the folder, or the report cannot be written.
    """
    # Computed before reading, so that lines that the search appends in the meantime count as not yet reported.
    source = fingerprint(path)
    run = read(path)
    folder = path / "report"
    try:
        write_tables(run, folder, source)
        write_spaces(run, folder)
        if pieces := advice(run):
            write_advice(pieces[0], run, folder, source)
        html = folder / "report.html"
        write_whole(html, lambda part: part.write_text(page(run), encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return html


def write_spaces(run: RunData, folder: Path) -> None:
    """Write the space of the run, and the winner's config if there is one, as files that commands can read.

    Args:
        run: The run.
        folder: Folder to write to.
    """
    make_folder(folder)
    trees = {"space.yaml": run.study["space"], "winner.yaml": winner_config(run)}
    for name, tree in trees.items():
        if tree is not None:
            text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
            write_whole(folder / name, partial(_write_text, text=text))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
