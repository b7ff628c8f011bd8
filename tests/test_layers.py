"""Imports run only downward, and what answers at once imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY

MAY_IMPORT = {
    "spaces": set(),
    "models": {"spaces"},
    "reports": {"spaces"},
    "search": {"models", "reports", "spaces"},
}
NEVER = {"spaces": {"torch", "torchvision", "ray", "optuna"}, "reports": {"torch", "torchvision", "ray"}}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_run_downward(package):
    ours = set(MAY_IMPORT) - {package} - MAY_IMPORT[package]
    forbidden = ours | NEVER.get(package, set())
    files = list((REPOSITORY / package).rglob("*.py"))
    assert files
    for file in files:
        assert not imported_by(file) & forbidden, file


def imported_by(file) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["spaces"], ["spaces", "digits"]], ids=" ".join)
def test_quick_commands_import_nothing_heavy(arguments):
    code = (
        "import sys\nfrom search.cli.main import main\n"
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
        subprocess.run([sys.executable, "-m", "search", "--help"], capture_output=True, check=True, cwd=REPOSITORY)
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 1.5
