"""What a worker imports before its first epoch is what a user waits for."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from dataclasses import asdict
from pathlib import Path
from winnow.search.data.source import Source, load_data
from winnow.search.study.trials import Assignment
from winnow.search.ray_backend.shared_data import Job
from winnow.search.ray_backend.worker import trial_reports
from winnow.spaces import catalog

space = catalog.load("digits")
data = load_data(space, Source(Path()))
config = space.example().model_dump(mode="json")
assignment = Assignment(0, 1, config)
for name in [name for name in sys.modules if name.partition(".")[0] in UNWANTED]:
    del sys.modules[name]  # what the driver needed for this

report = next(trial_reports(assignment, data, Job(checkpoints=sys.argv[1], device="cpu", threads=1, seed=0)))
print(report.get("error", "trained"), report.get("num_parameters", 0) > 0)
print(sorted(UNWANTED & {name.partition(".")[0] for name in sys.modules}))

import torch
print(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(1)).item(), "sympy" in sys.modules)
"""


@pytest.mark.slow
def test_an_epoch_needs_neither_compiler_nor_optuna_and_compiling_still_works(tmp_path):
    unwanted = "UNWANTED = {'sympy', 'optuna', 'torchvision'}\n"
    ran = subprocess.run(
        [sys.executable, "-c", unwanted + SCRIPT, str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert ran.stdout.splitlines() == ["trained True", "[]", "2.0 True"], ran.stderr


def test_the_driver_checks_the_catalog_without_torch():
    """Its import would be waited for before Ray starts. Only spaces with code of their own or torchvision's networks need it."""
    code = """
import sys
from pathlib import Path
from winnow.search.data.source import Source, load_data
from winnow.search.operations.checks import check_space
from winnow.search.settings import settings_for
from winnow.spaces import catalog
import winnow.search.operations.searching

space = catalog.load("digits")
check_space(space, load_data(space, Source(Path())))
settings_for(space)
print("torch" in sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout.splitlines() == ["False"], ran.stderr
