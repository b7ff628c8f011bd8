"""On Windows everything can be imported, and the command says that it was not tried there."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import REPOSITORY

# What Windows has not: these modules, and these functions of os. Third-party packages are imported before they go.
IMPORTS = """
import importlib, os, pkgutil, sys
import click, numpy, optuna, pandas, psutil, pyarrow, pydantic, ray, ray.train, ray.tune, rich.live, torch, torchvision, yaml, filelock, sklearn
import winnow.models, winnow.reports, winnow.search, winnow.spaces
for name in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("sysconf", "getuid", "sched_getaffinity", "fork"):
    delattr(os, name)
for package in (winnow.spaces, winnow.models, winnow.search, winnow.reports):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
from winnow.search.data.space_left import free_memory
from winnow.search.storage.provenance import hardware
assert free_memory() > 0 and hardware()["memory_mb"] > 0
sys.platform = "win32"
from winnow.search.cli.main import main
main(["--version"])
"""


def test_windows() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=REPOSITORY, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "note: Winnow is not tested on Windows; under WSL2 it runs as on Linux" in done.stderr
