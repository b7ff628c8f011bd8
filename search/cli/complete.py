"""Shell completion: spaces, runs, keys for `--set`, and columns for `--sort` and `--where`."""

from __future__ import annotations

import glob
import re
from pathlib import Path

import click
from click.shell_completion import CompletionItem


def complete_space(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest spaces of the catalog and YAML files.

    Args:
        context: Context of the command so far; not used.
        parameter: The argument that is completed; not used.
        incomplete: Text typed so far; may be empty.

    Returns:
        An item that lets the shell complete file names, then the spaces that begin with the text.
    """
    from winnow.spaces import catalog

    names = [CompletionItem(name, help=about) for name, about in catalog.listing() if name.startswith(incomplete)]
    # The file item comes first: click's script for bash forgets the items before it.
    return [CompletionItem(incomplete, type="file"), *names]


def complete_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest runs under `runs/` and folders.

    Args:
        context: Context of the command so far; not used.
        parameter: The argument that is completed; not used.
        incomplete: Text typed so far; may be empty.

    Returns:
        An item that lets the shell complete folder names, then the runs that begin with the text.
    """
    names = sorted(file.parent.name for file in Path("runs").glob(f"{glob.escape(incomplete)}*/study.yaml"))
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, names)]


def complete_key(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest config paths for `--set`, each followed by `=`.

    Args:
        context: Context of the command so far; not used.
        parameter: The option that is completed; not used.
        incomplete: Text typed so far; may be empty.

    Returns:
        The paths that begin with the text, such as `optimizer.lr=`.
    """
    from winnow.spaces.schema.paths import config_paths

    return [CompletionItem(f"{path}=") for path in config_paths() if path.startswith(incomplete)]


def complete_column(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Suggest columns of `trials.parquet` for the last word of `--sort` or `--where`.

    Args:
        context: Context of the command so far; its `run` names the run. Default: the newest run.
        parameter: The option that is completed; not used.
        incomplete: Text typed so far; may be empty. A minus sign before the last word is kept.

    Returns:
        The text with its last word completed, once per column. Columns of the space's parameters
        are included if the run can be read.
    """
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
