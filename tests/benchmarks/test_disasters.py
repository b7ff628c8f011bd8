"""A few hundred simulated histories, and the proof that the simulation sees: bugs put in on purpose are found."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from benchmarks.reliability.disasters.bugs import BUGS
from benchmarks.reliability.disasters.disk import FailingDisk
from benchmarks.reliability.disasters.history import simulate
from benchmarks.reliability.disasters.scenario import SCENARIOS
from benchmarks.reliability.disasters.stand_ins import quick_serialization
from tests.conftest import REPOSITORY
from winnow.search.training.checkpoint import CorruptCheckpoint, load, save


@pytest.mark.parametrize("block", range(4))
def test_nothing_is_lost_doubled_or_wrong(block):
    results = {seed: simulate(seed) for seed in range(50 * block, 50 * (block + 1))}
    assert {seed: result.violations for seed, result in results.items() if result.violations} == {}
    assert sum(result.faults for result in results.values()) > 50


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found_within_100_seeds(bug):
    assert any(simulate(seed, bug).violations for seed in range(100))


@pytest.mark.parametrize("is_library", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_leaves_what_was_synced(tmp_path, seed, is_library):
    disk, path = FailingDisk(tmp_path, random.Random(seed)), tmp_path / "file"
    with disk.installed():
        if is_library:  # it opens the file without Python's `open`
            handle = os.open(path, os.O_WRONLY | os.O_CREAT)
            os.write(handle, b"first, ")
            os.close(handle)
        with path.open("r+b" if is_library else "wb") as file:
            file.seek(7)
            file.write(b"second")
            file.flush()
            file.truncate(12)
            os.fsync(file.fileno())
            written = path.read_bytes()
            file.write(b" and not synced")
            file.flush()
        folder = os.open(tmp_path, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        disk.cut_power()
    assert written == (b"first, " if is_library else bytes(7)) + b"secon"
    assert path.read_bytes().startswith(written)


def test_a_damaged_checkpoint_is_noticed_as_that_of_torch_is(tmp_path):
    with quick_serialization():
        save(tmp_path / "whole.pt", {"epoch": 3, "history": [{"loss": 0.5}]})
        assert load(tmp_path / "whole.pt") == {"epoch": 3, "history": [{"loss": 0.5}]}
        content = (tmp_path / "whole.pt").read_bytes()
        for damaged in (b"", content[:2], content[:-1], content[:20] + b"\0" * 8 + content[28:]):
            (tmp_path / "damaged.pt").write_bytes(damaged)
            with pytest.raises(CorruptCheckpoint):
                load(tmp_path / "damaged.pt")


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
