"""Collects the code that is sent to the nodes of a cluster: Winnow's packages, a user's own parts, and the modules that these import."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from winnow.search.ray_backend.session import QUIET
from winnow.search.storage.leftovers import temporary_errors, temporary_folder
from winnow.spaces.errors import InputError
from winnow.spaces.own_sources import imported_sources, spec_of
from winnow.spaces.schema.fields import IMPORT_PATH
from winnow.spaces.space import Space

PACKAGES = ("search", "models", "reports", "spaces")
KEYS_OF_PARTS = ("model", "initialization", "train", "optimizer", "schedule", "loss", "augment", "own_metric")


@contextmanager
def runtime_env(spaces: Iterable[Space]) -> Iterator[dict[str, Any]]:
    """Yield the `runtime_env` for `ray.init`, with which workers import the driver's code, whatever is installed on their nodes.

    Ray uploads the code while it connects; the block may end afterwards.

    Args:
        spaces: The spaces of the trainings, which name the user's own parts.

    Raises:
        InputError: A module cannot be sent, or temporary files cannot be written.
    """
    parts = {module for space in spaces for module in _user_modules(space.tree)}
    imported = {module for part in parts for module in imported_sources(part)}
    users = sorted({module.partition(".")[0] for module in parts | imported})
    with temporary_errors("start the command again"), temporary_folder("code") as folder:
        modules = [str(_own_code(Path(folder))), *map(_path_of, users)]
        yield {"py_modules": modules, "excludes": ["**/__pycache__"], "env_vars": dict(QUIET)}


def _own_code(folder: Path) -> Path:
    """Copy the package `winnow` into one folder. In a checkout its subpackages are not inside it, and Ray sends a folder as it is."""
    winnow = folder / "winnow"
    for name in PACKAGES:
        package = Path(_path_of(f"winnow.{name}"))
        # Not copytree: its error of a full disk is not that of the system, but a list of texts.
        for file in package.rglob("*"):
            if file.is_file() and "__pycache__" not in file.parts:
                _copy(file, winnow / name / file.relative_to(package))
    for file in Path(_path_of("winnow")).glob("*.py"):
        _copy(file, winnow / file.name)
    return winnow


def _copy(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(file.read_bytes())


def _user_modules(tree: Any, in_part: bool = False) -> Iterator[str]:
    """Yield the module of every part of the user's own that a worker calls, including those of the baseline."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if in_part:
                yield from _user_modules(key, in_part)
            yield from _user_modules(value, in_part or key in KEYS_OF_PARTS)
    elif isinstance(tree, list):
        for value in tree:
            yield from _user_modules(value, in_part)
    elif in_part and isinstance(tree, str) and re.fullmatch(IMPORT_PATH, tree):
        yield tree.partition(":")[0]


def _path_of(module: str) -> str:
    """Return the folder of a package, or the .py file of a single module."""
    spec = spec_of(module)
    if spec is not None and spec.submodule_search_locations:
        return str(next(iter(spec.submodule_search_locations)))
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise InputError(f"module {module}: neither a package nor a .py file here, so it cannot be sent to the cluster")
    return spec.origin
