"""A few hundred simulated histories, and the proof that the simulation sees: bugs put in on purpose are found."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.reliability.disasters.bugs import BUGS
from benchmarks.reliability.disasters.history import simulate
from benchmarks.reliability.disasters.scenario import SCENARIOS
from tests.conftest import REPOSITORY


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_doubled_or_wrong(block):
    results = {seed: simulate(seed) for seed in range(50 * block, 50 * (block + 1))}
    assert {seed: result.violations for seed, result in results.items() if result.violations} == {}
    assert sum(result.faults for result in results.values()) > 50


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_within_100_seeds(bug):
    assert any(simulate(seed, bug).violations for seed in range(100))


HISTORIES = """
from benchmarks.reliability.disasters.history import simulate
from benchmarks.reliability.disasters.scenario import SCENARIOS
for number in range(5):
    print(*simulate(7 * SCENARIOS + number).log, sep="\\n")
"""


def test_one_seed_is_one_history():
    """In another process too, in which sets have another order."""
    command, logs = [sys.executable, "-c", HISTORIES], []
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        logs.append(subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, check=True).stdout)
    assert logs[0] == logs[1]
    assert logs[0].count(b"\n") > 100
    assert simulate(7 * SCENARIOS).log != simulate(8 * SCENARIOS).log
