"""Parts that several commands share: exit codes, the console, and the devices and images of a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from winnow.search.data.source import Source
    from winnow.search.operations.execution import Execution
    from winnow.search.resources.plan import DeviceOptions
    from winnow.search.settings import Settings
    from winnow.search.views.console import VisibleConsole
    from winnow.spaces.space import Space

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes. After an interruption the state is kept, and the search can be resumed."""

Options = Mapping[str, Any]
"""Options of the command line, by name, as click parsed them."""


def console(as_json: bool = False) -> VisibleConsole:
    """Create a console that writes to standard output.

    Args:
        as_json: Whether to write to the real standard output while `--json` redirects all other output.
    """
    from winnow.search.cli.json_output import json_stream
    from winnow.search.views.console import VisibleConsole

    return VisibleConsole(file=json_stream() if as_json else sys.stdout, highlight=False)


def source_of(options: Options) -> Source | None:
    """Return the location of the data sets; None if `--data-dir` was not given."""
    from winnow.search.data.source import Source

    return None if options["data_dir"] is None else Source(options["data_dir"], options["download"])


def load_space(name: str, overrides: tuple[str, ...]) -> Space:
    """Load a space with its overrides, and print its notes to standard error.

    Args:
        name: Name of a space or recipe of the catalog, or the path of a YAML file.
        overrides: Values of `--set`, such as `optimizer.lr=0.01`; applied in this order.

    Returns:
        The checked space.

    Raises:
        InputError: No such space, or the space or an override is not valid.
    """
    from winnow.spaces import catalog
    from winnow.spaces.errors import printable

    space = catalog.load(name, overrides)
    for note in space.notes:
        click.echo(f"note: {printable(note)}", err=True)
    return space


def settings_of(space: Space, options: Options) -> Settings:
    """Combine the settings of a space with the options of the command line, which take precedence.

    Args:
        space: The space that provides the values of options that were not given.
        options: Options by name; None means not given. Options that are not settings are ignored.

    Returns:
        The checked settings of the search.

    Raises:
        InputError: A setting is out of range, or two settings contradict each other.
    """
    from winnow.search.settings import RunOptions, settings_for

    return settings_for(space, **{name: options[name] for name in RunOptions.model_fields if name in options})


def device_options(options: Options) -> DeviceOptions:
    """Return the device options of a command.

    Args:
        options: The parsed options.

    Raises:
        InputError: Two of them contradict each other.
    """
    from dataclasses import fields

    from winnow.search.resources.plan import DeviceOptions

    return DeviceOptions(**{field.name: options[field.name] for field in fields(DeviceOptions)})


@contextmanager
def execution(options: Options) -> Iterator[Execution]:
    """Open the view, and yield it with the devices and images that the options select."""
    from winnow.search.operations.execution import Execution
    from winnow.search.views.choose import make_view

    as_json = options.get("as_json", False)
    with make_view(console(as_json), options["quiet"], as_json) as view:
        yield Execution(
            view=view,
            devices=device_options(options),
            data_dir=options["data_dir"],
            download=options["download"],
            address=options["address"],
            log=options.get("log", ()),
        )
