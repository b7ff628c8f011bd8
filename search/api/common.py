"""The parts that several functions of the API share: overrides, spaces, and where a call runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from winnow.search.operations.execution import Execution
from winnow.search.resources.plan import DeviceOptions
from winnow.search.views.choose import make_view
from winnow.search.views.console import VisibleConsole
from winnow.spaces import catalog
from winnow.spaces.errors import InputError
from winnow.spaces.space import Space

Overrides: TypeAlias = Sequence[str] | Mapping[str, Any]
"""Values that replace those of a space: `["epochs=6", "optimizer.lr=0.01"]`, as after `--set`, or `{"epochs": 6, "optimizer.lr": 0.01}`."""
Place: TypeAlias = str | PathLike[str]
"""A path. For a run it may also be a name under `runs/`, or a `Run`."""

ALL_DEVICES = DeviceOptions()


class SearchFailed(RuntimeError):
    """Raised if a search stopped because its last trials all ended with the same error; the message is its traceback."""


def load_space(space: Space | Place, overrides: Overrides = ()) -> Space:
    """Load a space of the catalog, a recipe or a YAML file.

    Args:
        space: A name of the catalog or the path of a YAML file; a `Space` is returned as it is.
        overrides: Values that replace those of the file: `["epochs=6"]` as after `--set`, or `{"epochs": 6}`.

    Returns:
        The checked space.

    Raises:
        InputError: There is no such space, or a key or value is refused.
    """
    if isinstance(space, Space):
        if overrides:
            raise InputError("overrides are applied when a space is loaded: load_space(NAME, overrides)")
        return space
    if not isinstance(space, str | PathLike):
        raise InputError(f"space must be a name, a path or a Space, but got {type(space).__name__}: {space!r}")
    return catalog.load(fspath(space), as_texts(overrides))


def as_texts(overrides: Overrides) -> list[str]:
    """Convert overrides to `PATH=VALUE` strings.

    Raises:
        InputError: The overrides are a single string.
    """
    if isinstance(overrides, str):
        raise InputError(f"overrides must be a list such as ['epochs=6'], but got the string {overrides!r}")
    if isinstance(overrides, Mapping):  # JSON is YAML
        return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return list(overrides)


@contextmanager
def execution(
    devices: DeviceOptions,
    data_dir: Place | None = None,
    download: bool = False,
    address: str | None = None,
    quiet: bool = False,
    log: Sequence[str] = (),
    command: str | None = None,
) -> Iterator[Execution]:
    """Open the view, and yield it with the devices and images of one call.

    Args:
        devices: The devices, and how trainings share them.
        data_dir: Folder of the data sets. Default: `data/`, or the folder that an existing run recorded.
        download: Whether missing data sets are downloaded.
        address: Ray cluster to join. Default: one is started on this machine.
        quiet: Whether no progress is shown.
        log: Trackers that also receive the figures.
        command: Command line that the run records. Default: none.
    """
    with make_view(console(), quiet) as view:
        yield Execution(
            view=view,
            devices=devices,
            data_dir=None if data_dir is None else Path(data_dir),
            download=download,
            address=address,
            log=log,
            command=command,
        )


def console(quiet: bool = False) -> VisibleConsole:
    """Create a console that writes to standard output or to the cell of a notebook."""
    return VisibleConsole(highlight=False, quiet=quiet)
