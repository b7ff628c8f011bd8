"""A few hundred simulated histories, and the proof that the simulation sees: bugs put in on purpose are found."""

from __future__ import annotations

import pytest

from benchmarks.reliability.disasters.bugs import BUGS
from benchmarks.reliability.disasters.history import SCENARIOS, simulate


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_doubled_or_wrong(block):
    results = {seed: simulate(seed) for seed in range(50 * block, 50 * (block + 1))}
    assert {seed: result.violations for seed, result in results.items() if result.violations} == {}
    assert sum(result.faults for result in results.values()) > 50


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_within_100_seeds(bug):
    assert any(simulate(seed, bug).violations for seed in range(100))


def test_one_seed_is_one_history():
    seed = 7 * SCENARIOS + 3
    assert simulate(seed).log == simulate(seed).log
    assert simulate(seed).log != simulate(seed + SCENARIOS).log
