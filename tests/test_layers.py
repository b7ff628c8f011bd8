"""Imports run only downward, a library is imported only where it belongs, and quick commands import nothing heavy.

`docs/architecture.md` explains the layers; this file decides. Names are relative to `winnow`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

import pytest

from tests.conftest import REPOSITORY

LAYERS = {  # package -> what it may import, besides itself
    "search.seeds": (),
    "search.status": (),
    "search.optional": ("spaces",),
    "search.settings": ("spaces",),
    "search.storage": ("spaces", "reports"),
    "search.data": ("search.storage", "spaces", "reports"),
    "search.training": ("search.status", "search.data", "search.storage", "search.seeds", "spaces", "models"),
    "search.schedulers": ("search.settings",),
    "search.samplers": ("search.schedulers", "search.settings", "search.seeds", "spaces"),
    "search.study": (
        "search.status",
        "search.samplers",
        "search.schedulers",
        "search.settings",
        "search.storage",
        "search.seeds",
        "spaces",
        "reports",
    ),
    "search.resources": ("search.training", "search.data", "search.storage", "spaces", "models"),
    "search.ray_backend": (
        "search.study",
        "search.resources",
        "search.training",
        "search.data",
        "search.storage",
        "search.seeds",
        "spaces",
        "models",
    ),
    "search.views": ("search.study", "reports"),
    "search.trackers": ("search.study", "search.resources", "search.storage", "search.optional", "spaces", "reports"),
    "search.winners": (
        "search.status",
        "search.ray_backend",
        "search.study",
        "search.resources",
        "search.training",
        "search.data",
        "search.storage",
        "search.seeds",
        "search.settings",
        "search.optional",
        "spaces",
        "models",
        "reports",
    ),
    "search.operations": (
        "search.winners",
        "search.trackers",
        "search.views",
        "search.ray_backend",
        "search.study",
        "search.resources",
        "search.schedulers",
        "search.training",
        "search.data",
        "search.storage",
        "search.settings",
        "search.seeds",
        "spaces",
        "models",
        "reports",
    ),
    "search.api": (
        "search.operations",
        "search.winners",
        "search.views",
        "search.ray_backend",
        "search.study",
        "search.resources",
        "search.data",
        "search.storage",
        "search.settings",
        "spaces",
        "reports",
    ),
    "search.cli": (
        "search.operations",
        "search.winners",
        "search.views",
        "search.ray_backend",
        "search.study",
        "search.resources",
        "search.data",
        "search.storage",
        "search.settings",
        "spaces",
        "reports",
    ),
    "reports": ("spaces",),
    "models": ("spaces",),
    "spaces": (),
}
ONLY = {
    "ray": ("search.ray_backend",),
    "optuna": ("search.samplers", "search.study", "reports.tables.importance", "reports.reading.journal"),
    "click": ("search.cli",),
    "plotly": ("reports.figures", "reports.html"),
    "torch": (
        "models",
        "search.training",
        "search.ray_backend",
        "search.resources",
        "search.winners",
        "search.operations",
        "search.trackers",
    ),
}
PRIVATE_ALLOWED = {
    "ray._private.services": ("search.ray_backend.cluster", "search.ray_backend.held_signals"),
    "ray._private.node": ("search.ray_backend.lean_ray",),
    "ray.air.execution._internal": ("search.ray_backend.worker_errors",),
    "optuna.importance._fanova._fanova": ("reports.tables.importance",),
}


class Import(NamedTuple):
    module: str  # of the importing file, e.g. "search.cli.main"
    target: str  # e.g. "search.settings" or "numpy"
    line: int
    eager: bool
    """Whether importing the module runs it: neither inside a function nor for type checkers alone."""


@cache
def imports() -> list[Import]:
    return list(_imports())


def _imports() -> Iterator[Import]:
    for top in ("search", "reports", "models", "spaces"):
        for file in sorted((REPOSITORY / top).rglob("*.py")):
            name = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
            for node, eager in _statements(ast.parse(file.read_text()), eager=True):
                if isinstance(node, ast.ImportFrom) and node.module:
                    assert node.level == 0, f"{name}:{node.lineno}: a relative import"
                    for alias in node.names:
                        # `from winnow.search.study import ledger` imports the module, `... import Ledger` does not.
                        inner = f"{node.module}.{alias.name}"
                        yield Import(name, _own(inner if inner in modules() else node.module), node.lineno, eager)
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        yield Import(name, _own(alias.name), node.lineno, eager)


def _statements(node: ast.AST, eager: bool) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether importing the module runs it."""
    for child in ast.iter_child_nodes(node):
        for_types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        lazy = for_types or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        yield child, eager
        yield from _statements(child, eager and not lazy)


def _own(module: str) -> str:
    return module.removeprefix("winnow.")


@cache
def modules() -> set[str]:
    files = (file for top in ("search", "reports", "models", "spaces") for file in (REPOSITORY / top).rglob("*.py"))
    names = (".".join(file.relative_to(REPOSITORY).with_suffix("").parts) for file in files)
    return {"winnow." + name.removesuffix(".__init__") for name in names}


def layer_of(module: str) -> str | None:
    parts = module.split(".")
    prefixes = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in LAYERS), None)


def test_every_import_runs_down():
    bad = []
    for module, target, line, _ in imports():
        importing, imported = layer_of(module), layer_of(target)
        if importing and imported and importing != imported and imported not in LAYERS[importing]:
            bad.append(f"{module}:{line} imports {target}")
    assert not bad, "\n".join(bad)


def test_every_room_has_a_layer():
    """A new folder within `search/` has to be given its place here."""
    rooms = {".".join(module.split(".")[1:3]) for module in modules() if module.startswith("winnow.search.")}
    assert rooms == {layer for layer in LAYERS if layer.startswith("search.")}


def test_winnow_is_imported_by_its_own_name():
    """`import search` would work in a checkout only, and would be a second copy of the package."""
    tops = {"search", "reports", "models", "spaces"}
    for file in REPOSITORY.rglob("*.py"):
        if {".venv", "build"} & set(file.relative_to(REPOSITORY).parts):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & tops, f"{file}:{node.lineno}"


@pytest.mark.parametrize("package", ["search", "reports", "spaces"])
def test_no_circle_of_modules(package):
    """Counts every import, also those inside functions and those for type checkers alone."""
    floors_of(package, imports())


@pytest.mark.parametrize("package", ["search", "reports", "spaces"])
def test_what_importing_a_module_imports_is_ten_deep_at_most(package):
    floors = floors_of(package, [i for i in imports() if i.eager])
    assert max(floors.values()) <= 10, sorted(floors.items(), key=lambda item: -item[1])[:10]


def test_rooms_form_ten_floors_at_most():
    """The rooms of `search/` (its folders and the files beside them), with every import between them."""

    def room(module: str) -> str:
        return ".".join(module.split(".")[:2])

    # The face `winnow.search` re-exports what lies in the rooms: it is no room of its own.
    between = {Import(room(i.module), room(i.target), i.line, i.eager) for i in imports() if i.module != "search"}
    floors = floors_of("search", between, {room(module.removeprefix("winnow.")) for module in modules()})
    assert max(floors.values()) <= 10, sorted(floors.items(), key=lambda item: -item[1])


def floors_of(package: str, found: Iterable[Import], names: set[str] | None = None) -> dict[str, int]:
    """The floor of each module: 1 if it imports none of the package, else one above the highest that it imports."""
    names = names or {module.removeprefix("winnow.") for module in modules()}
    inside = {name for name in names if f"{name}.".startswith(f"{package}.")}
    arrows: dict[str, set[str]] = {name: set() for name in inside}
    for i in found:
        if i.module in inside and i.target in inside - {i.module}:
            arrows[i.module].add(i.target)
    floors: dict[str, int] = {}
    while len(floors) < len(arrows):
        ready = {name for name in arrows if name not in floors and arrows[name] <= floors.keys()}
        assert ready, f"a circle among {sorted(set(arrows) - floors.keys())}"
        floors |= {name: 1 + max((floors[target] for target in arrows[name]), default=0) for name in ready}
    return floors


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_only_where_it_belongs(library):
    bad = [
        f"{i.module}:{i.line}"
        for i in imports()
        if i.target.split(".")[0] == library and not i.module.startswith(ONLY[library])
    ]
    assert not bad, bad


def test_private_modules_of_others_are_listed():
    def private(target: str) -> bool:
        return any(part.startswith("_") and not part.startswith("__") for part in target.split("."))

    bad = [
        f"{i.module}:{i.line} {i.target}"
        for i in imports()
        if private(i.target) and i.module not in PRIVATE_ALLOWED.get(i.target, ())
    ]
    assert not bad, bad


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["spaces"], ["spaces", "digits"]], ids=" ".join)
def test_quick_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom winnow.search.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'torch', 'torchvision', 'ray', 'optuna', 'pandas', 'plotly'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_is_quick():
    """The figure that the README states is half a second; the test leaves room for a loaded machine, at its best of three."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "winnow", "--help"], capture_output=True, check=True, cwd=REPOSITORY)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5
