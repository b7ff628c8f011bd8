"""Shell completion: spaces, runs, keys for `--set`, and columns for `--sort` and `--where`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def complete_space(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the catalog, and YAML files."""
    from winnow.spaces import catalog

    names = [CompletionItem(name, help=about) for name, about in catalog.listing() if name.startswith(incomplete)]
    # The file item comes first: click's script for bash forgets the items before it.
    return [CompletionItem(incomplete, type="file"), *names]


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names under runs/, and folders."""
    names = sorted(file.parent.name for file in Path("runs").glob(f"{glob.escape(incomplete)}*/study.yaml"))
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Paths of the config, followed by `=`."""
    from winnow.spaces.schema.paths import config_paths

    return [CompletionItem(f"{path}=") for path in config_paths() if path.startswith(incomplete)]


def complete_column(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Columns of the trials of RUN, or of any run if it is not known; for `--where` in place of the last word."""
    word = re.fullmatch(r"(.*?[\s(]|)(-?)([\w.]*)", incomplete, re.DOTALL)
    if word is None:
        return []
    before, minus, start = word.groups()
    names = [name for name in _columns(context.params.get("run")) if name.startswith(start)]
    return [CompletionItem(f"{before}{minus}{name}") for name in names]


def _columns(run: str | None) -> list[str]:
    from winnow.reports.schemas import TABLES
    from winnow.search.storage.run_folder import newest_run, open_run, space_of
    from winnow.spaces.errors import InputError

    own = [column.name for column in TABLES["trials"].columns]
    try:
        return [*own, *space_of(newest_run() if run is None else open_run(run)).columns()]
    except InputError:
        return own
