"""Finds the code that a space, a run or an export makes Winnow import, and decides whether it may run.

A file that names `package.module:function` determines which code is called, and with which arguments. Code in the working directory
or in a folder of PYTHONPATH is the user's own; for any other code, the user must state that the file is trusted.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from winnow.search.operations.trusted_code import is_remembered, remember
from winnow.search.storage.json_lines import read_json_lines
from winnow.search.storage.run_folder import RunFolder
from winnow.spaces.errors import InputError
from winnow.spaces.grammar.plain_yaml import read_plain
from winnow.spaces.own_code import NEVER, NEVER_REASON
from winnow.spaces.own_sources import imported_sources, source_of, spec_of
from winnow.spaces.schema import TrainedBackbone
from winnow.spaces.schema.fields import IMPORT_PATH
from winnow.spaces.schema.own import kind_of
from winnow.spaces.space import Space


class UntrustedCode(InputError):
    """Raised for code that is not the user's own and would run only if the user trusted it."""


def check_space_code(space: Space, trusted: bool) -> None:
    """Check that all code that a space names may run.

    Args:
        space: The space.
        trusted: Whether the user trusts the code, as with `--trust-code`.

    Raises:
        UntrustedCode: It names code that would run if it were trusted.
        InputError: It names code that never runs.
    """
    folder = Path(space.source).parent.resolve()
    # A file in the working directory itself is the user's own.
    _check(import_paths(space.tree), space.source, None if folder == Path.cwd() else folder, trusted, False)


def check_run_code(folder: RunFolder, trusted: bool) -> None:
    """Check that all code that a run names, in its space or in any of its configs, may run.

    Args:
        folder: The run.
        trusted: Whether the user trusts all code that it names.

    Raises:
        UntrustedCode: It names code that would run if it were trusted.
        InputError: It names code that never runs.
    """
    records = [folder.read_study().get("space")]
    for file in (folder.journal, folder.retrained, folder.warm_start, folder.earlier_runs):
        records.extend(read_json_lines(file))
    _check(import_paths(records), str(folder.path), folder.path.resolve(), trusted, True)


def check_export_code(folder: Path, trusted: bool) -> None:
    """Check that all code that an exported winner names may run.

    Args:
        folder: The exported winner.
        trusted: Whether the user trusts all code that it names.

    Raises:
        UntrustedCode: It names code that would run if it were trusted.
        InputError: It names code that never runs.
    """
    for file in sorted(folder.rglob("config.yaml")):  # an ensemble has one for each network in its folder
        try:
            config = read_plain(file)
        except (OSError, ValueError, yaml.YAMLError):
            continue  # the code that reads the file next reports the problem
        _check(import_paths(config), str(folder), folder.resolve(), trusted, True)


def import_paths(tree: Any) -> set[str]:
    """Find every `package.module:function` in a tree of mappings and lists, and every name that the schema takes for one.

    The configs of trained backbones, which lie in files of their own, are searched too. A backbone whose config cannot be read is left to the
    code that builds it.
    """
    paths: set[str] = set()
    trees: list[Any] = [tree]
    read: set[tuple[str, str | None]] = set()
    while trees:
        tree = trees.pop()
        paths |= {text for text in _texts(tree) if re.fullmatch(IMPORT_PATH, text)} | set(_own_names(tree))
        backbones = _backbones(tree) - read  # a config may name itself
        read |= backbones
        trees += [config for weights, file in sorted(backbones, key=str) if (config := _stored_config(weights, file))]
    return paths


def _stored_config(weights: str, config: str | None) -> Any:
    """Return the config of a trained backbone; None if it has none that can be read."""
    if config is None and Path(weights).suffix == ".safetensors":
        return None  # it holds tensors alone, and is checked before torch is imported
    from winnow.models.backbones import stored_config  # imports torch

    with suppress(InputError, OSError, ValueError):
        return stored_config(TrainedBackbone(weights=weights, config=config))
    return None


def own_code_hashes(tree: Any) -> dict[str, str]:
    """Return a hash of the source file of every import path in a tree, so that a run records which code it used.

    The modules that these files import have hashes of their own, by their names, as far as they are the user's own too. Nothing is
    imported. A path without a source file, such as that of a compiled module, is left out.
    """
    files: dict[str, Path] = {}
    for path in sorted(import_paths(tree)):
        module = path.partition(":")[0]
        file = source_of(module)
        if file is not None and file.suffix == ".py":
            files[path] = file
        files |= imported_sources(module)
    return {name: hashlib.sha256(file.read_bytes()).hexdigest()[:16] for name, file in files.items()}


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _texts(key)
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)


def _backbones(tree: Any) -> set[tuple[str, str | None]]:
    """Return the files of weights, and of the config if there is one, of each trained backbone in a tree; of open ones each combination."""
    found: set[tuple[str, str | None]] = set()
    if isinstance(tree, dict) and isinstance(tree.get("backbone"), dict):
        for each in _mappings(tree["backbone"]):
            configs: list[str | None] = [*_texts(each.get("config"))]
            found |= set(product(_texts(each.get("weights")), configs or [None]))
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        found |= _backbones(value)
    return found


def _mappings(tree: Any) -> Iterator[dict[Any, Any]]:
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _mappings(value)


def _own_names(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        name = tree.get("name")
        if isinstance(name, str) and kind_of(tree) == "own":
            yield name
    if isinstance(tree, dict | list):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from _own_names(value)


def _check(paths: set[str], source: str, folder: Path | None, trusted: bool, brings_code: bool) -> None:
    untrusted = []
    for path in sorted(paths):
        if NEVER.fullmatch(path):
            raise InputError(f"{source}: names {path}, {NEVER_REASON}")
        file = _file_of(path)
        inside = folder is not None and file is not None and file.is_relative_to(folder)
        if inside and brings_code:
            raise InputError(
                f"{source}: names {path}, which lies in this folder itself ({file}): code that comes with a run or an export is "
                "never run from there; read it, and put it into your working directory"
            )
        is_own = folder is None or (not inside and _is_own(path, folder))
        if not (trusted or is_own or (brings_code and folder is not None and is_remembered(folder, path))):
            untrusted.append(path)
    if untrusted:
        raise UntrustedCode(
            f"{source}: names {', '.join(untrusted)}, so it runs code that is not in your working directory"
        )
    if trusted and brings_code and folder is not None:
        remember(folder, paths)


def remember_code(folder: Path, tree: Any) -> None:
    """Record that this user ran the code that a run names, so that later commands do not ask again.

    Args:
        folder: The run.
        tree: The tree of its space, which holds the import paths.
    """
    remember(folder, import_paths(tree))


def _file_of(path: str) -> Path | None:
    """Return the path of a module's file without its suffix; None if there is no such module or file. Nothing is imported."""
    top, *rest = path.partition(":")[0].split(".")
    spec = spec_of(top)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)), *rest).resolve()
    return Path(spec.origin).resolve() if spec.origin and spec.has_location else None


def _is_own(path: str, folder: Path) -> bool:
    """Return whether an import path that a folder names belongs to a file or a package of the user's own.

    A received folder in the working directory can be imported too: as a package without an `__init__.py`, or with one of its own.
    """
    spec = spec_of(path.partition(":")[0].partition(".")[0])
    if spec is None or not spec.has_location or spec.origin is None:  # no file, as a folder without an `__init__.py`
        return False
    file = Path(spec.origin).resolve()
    if "site-packages" in file.parts:  # the environment may be in the working directory
        return False
    if spec.submodule_search_locations and folder.is_relative_to(file.parent):
        return False
    where = file.parent.parent if spec.submodule_search_locations else file.parent
    own = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return any(where == Path(entry).resolve() for entry in own)
