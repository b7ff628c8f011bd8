"""Records where a run comes from: versions, hardware, git revision. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("torch", "torchvision", "ray", "optuna", "numpy", "pandas", "pyarrow", "pydantic", "scikit-learn")


def origin() -> dict[str, Any]:
    """Return the code, versions and hardware of a start of a search."""
    return {
        "winnow_version": version(),
        "versions": versions(),
        "hardware": hardware(),
        "git_revision": git_revision(),
    }


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def version(package: str = "winnow-search") -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def hardware() -> dict[str, Any]:
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": available_cpus(),
        "memory_mb": psutil.virtual_memory().total // 2**20,
    }


def available_cpus() -> int:
    """Return the number of CPUs that this process may use, respecting affinity masks (Slurm, taskset, containers)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def git_revision() -> str | None:
    """Return the git revision of the working directory, or else of Winnow's checkout; `+dirty` if tracked files were changed."""
    for folder in (Path(), Path(__file__).parent):
        try:
            revision = _git(folder, "rev-parse", "HEAD")
            return revision + ("+dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else "")
        except (OSError, subprocess.SubprocessError):
            continue
    return None


def command_line() -> str | None:
    """Return the command that started this process, as typed: `winnow ...` or `python script.py`; None in a notebook or a prompt."""
    import shlex

    script = Path(sys.argv[0])
    if script.name in ("", "-", "-c") or "ipykernel" in script.name:
        return None
    is_command = script.stem == "winnow" or script.parts[-2:] == ("winnow", "__main__.py")
    return " ".join(
        [*(["winnow"] if is_command else ["python", shlex.quote(str(script))]), *map(shlex.quote, sys.argv[1:])]
    )


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=5
    ).stdout.strip()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()
