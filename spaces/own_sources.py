"""Finds the source files of the user's own parts and of the modules that these import. Nothing is imported."""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}
"""Folders in which packages are installed."""


def search_working_directory() -> None:
    """Let modules be found in the working directory. Unlike `python -m`, an installed command does not search there."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())


def spec_of(top: str) -> ModuleSpec | None:
    """Return where a top-level module lies; None if there is no such module.

    Args:
        top: Name of the module, without dots.
    """
    search_working_directory()
    try:
        return find_spec(top)
    except (ImportError, ValueError, AttributeError):  # a module that was made without a file
        return None


def source_of(module: str) -> Path | None:
    """Return the source file of a module; None if there is none, as for a folder without `__init__.py`.

    Args:
        module: Name of the module, such as `package.module`.
    """
    top, *rest = module.split(".")
    spec = spec_of(top)
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin).resolve() if spec.origin and spec.has_location and not rest else None
    for folder in spec.submodule_search_locations:
        stem = Path(folder, *rest)
        for file in (stem / "__init__.py", *([stem.with_name(f"{stem.name}.py")] if rest else [])):
            if file.is_file():
                return file.resolve()
    return None


def imported_sources(module: str) -> dict[str, Path]:
    """Find the modules that the module of an own part imports, directly or through others, as far as they are the user's own too.

    Modules of Python, of installed packages and of Winnow are not the user's own. Import statements are read wherever they stand,
    also in functions. Modules that are imported in another way, as by `importlib`, are not found.

    Args:
        module: Name of the part's module, such as `package.module`.

    Returns:
        The name of each module and its source file, without `module` itself. It is empty for a module of an installed package.
    """
    found: dict[str, Path] = {}
    seen: set[str] = set()
    left = _with_parents(module)
    while left:
        name = left.pop()
        if name in seen or not _may_be_own(name):
            continue
        seen.add(name)
        file = source_of(name)
        if file is None or not _is_own(file):
            continue
        found[name] = file
        left.extend(_imported_by(name, file))
    found.pop(module, None)
    return dict(sorted(found.items()))


def _may_be_own(module: str) -> bool:
    top = module.partition(".")[0]
    return top != "winnow" and top not in sys.stdlib_module_names


def _is_own(file: Path) -> bool:
    of_python = [Path(sysconfig.get_path(key)).resolve() for key in ("stdlib", "platstdlib")]
    return not INSTALLED & set(file.parts) and not any(file.is_relative_to(folder) for folder in of_python)


def _imported_by(module: str, file: Path) -> Iterator[str]:
    """Yield every name that an import statement of a file may mean as a module, and the packages around it."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # importing it will fail
        return
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            around = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*around, *([node.module] if node.module else [])])
            for alias in node.names:
                yield from _with_parents(f"{base}.{alias.name}" if base else alias.name)


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
